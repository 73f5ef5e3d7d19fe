package lab_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/converge-agent/converge/test/lab"
)

// TestListensOnItsAddressAlone looks at the sockets of this process as the kernel lists them (proc(5), /proc/net/tcp).
func TestListensOnItsAddressAlone(t *testing.T) {
	store(t, lab.MinIO)
	store(t, lab.B2)
	if _, err := world.ACME(t.Context(), lab.ACMEOptions{}); err != nil {
		t.Fatal(err)
	}
	mine := map[string]bool{}
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil { // the one of Glob itself is gone
			mine[target] = true
		}
	}
	found := 0
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open("/proc/self/net/" + table)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			listening := len(fields) > 9 && (fields[3] == "0A" || strings.HasPrefix(table, "udp"))
			if !listening || !mine[fmt.Sprintf("socket:[%s]", fields[9])] {
				continue
			}
			found++
			if address, _, _ := strings.Cut(fields[1], ":"); address != "0100007F" { // 127.0.0.1
				t.Errorf("this process listens on %s (%s)", fields[1], table)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if found < 5 { // two stores, an authority, its name server twice
		t.Errorf("only %d sockets were found", found)
	}
}
