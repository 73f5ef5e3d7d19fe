package host

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"github.com/converge-agent/converge/diag"
)

// application is converge's own application id, a random one. It never changes, or every saved plan would be of another host.
var application = []byte{
	0x5b, 0x8e, 0x0f, 0x63, 0x1c, 0xd4, 0x4a, 0x27, 0x9e, 0x71, 0x30, 0xc8, 0xaf, 0x15, 0x62, 0xe9,
}

// machineIDPath is machine-id(5).
const machineIDPath = "/etc/machine-id"

// Identity returns what tells this host from others: 32 hexadecimal digits that are made from the machine's id, and from
// which nobody can tell that. machine-id(5) asks for it, and says how: sd_id128_get_machine_app_specific(3). It is "" on a
// host without such an id.
func Identity(files View) (string, error) {
	f, err := files.Lookup(machineIDPath)
	if err != nil {
		return "", diag.Wrap(err, "find out which host this is", "")
	}
	if f == nil || f.Type != Regular {
		return "", nil
	}
	id := make([]byte, 16)
	digits := bytes.TrimSpace(f.Content)
	if n, _ := hex.Decode(id, digits[:min(len(digits), 32)]); n != 16 || len(digits) != 32 {
		return "", nil // "uninitialized", before the first boot is over
	}
	mac := hmac.New(sha256.New, id)
	mac.Write(application)
	own := mac.Sum(nil)[:16]
	own[6] = own[6]&0x0f | 0x40 // of UUIDs, version 4
	own[8] = own[8]&0x3f | 0x80
	return hex.EncodeToString(own), nil
}
