package objectstore

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Answer is what a store does with something that was asked of it.
type Answer string

// The answers.
const (
	Honoured Answer = "honoured" // it does it
	Ignored  Answer = "ignored"  // it says yes, and does not
	Refused  Answer = "refused"  // it says no
)

// Capability is what a store was seen to do.
type Capability struct {
	Name   string `json:"name"` // CapACL and its like
	Answer Answer `json:"answer"`
	Status int    `json:"status"` // the HTTP status
}

// The names of capabilities.
const (
	CapACL         = "object ACL"      // x-amz-acl: public-read makes an object public
	CapChecksum    = "checksum header" // x-amz-checksum-crc32 is taken
	CapConditional = "If-None-Match"   // PutObject with it does not overwrite
	CapBatch       = "DeleteObjects"   // with Content-MD5
)

// Capabilities are those of one round.
type Capabilities []Capability

// String gives them in one line: "object ACL ignored, checksum header honoured, If-None-Match honoured, DeleteObjects honoured".
func (cs Capabilities) String() string {
	parts := make([]string, len(cs))
	for i, c := range cs {
		parts[i] = fmt.Sprintf("%s %s", c.Name, c.Answer)
	}
	return strings.Join(parts, ", ")
}

// Contradiction is a capability that is not as the table says.
type Contradiction struct {
	What      string // "it overwrites an object though If-None-Match forbids it"
	Attribute string // what to write in the object_store instead: "conditional_writes = false"; "" where nothing helps
}

// Against compares what was seen with an entry of the table. Wrong are those by which files could be lost or stay hidden: the entry
// claims more than the store does. More are things that the store does and the entry does not claim.
func (cs Capabilities) Against(p *Provider) (wrong, more []Contradiction) {
	for _, c := range cs {
		for _, rule := range claims {
			if rule.name != c.Name {
				continue
			}
			switch claimed := rule.claimed(p); {
			case claimed && c.Answer != Honoured:
				what := rule.refused
				if c.Answer == Ignored {
					what = rule.ignored
				}
				less := rule.less
				if c.Name == CapACL && p.Never[BucketPolicy] != "" {
					less = ""
				}
				if at := (Contradiction{fmt.Sprintf("%s (%s %d)", what, c.Answer, c.Status), less}); rule.harmless {
					more = append(more, at)
				} else {
					wrong = append(wrong, at)
				}
			case !claimed && c.Answer == Honoured && rule.more != "":
				more = append(more, Contradiction{rule.honoured, rule.more})
			}
		}
	}
	return wrong, more
}

// claims are what entries of the table claim, and what it means where a store does otherwise.
var claims = []struct {
	name                       string
	claimed                    func(*Provider) bool
	ignored, refused, honoured string // in words
	less, more                 string // what to write in the object_store; "" where it is all the same
	harmless                   bool   // nothing of converge or Mastodon relies on it
}{
	{
		name: CapConditional, claimed: func(p *Provider) bool { return p.ConditionalWrites },
		ignored: "it overwrites an object though If-None-Match forbids it", refused: "it refuses uploads with If-None-Match",
		honoured: "it honours If-None-Match, which saves a HeadObject before each upload",
		less:     "conditional_writes = false", more: "conditional_writes = true",
	},
	{
		name: CapBatch, claimed: func(p *Provider) bool { return p.BatchDelete },
		ignored: "its DeleteObjects says that it deleted what is still there", refused: "it refuses DeleteObjects",
		honoured: "its DeleteObjects works", less: "batch_delete = false", more: "batch_delete = true",
	},
	{
		name: CapACL, claimed: func(p *Provider) bool { return p.Public == ObjectACL },
		ignored: "it ignores the ACL of an object: nobody could read it", refused: "it refuses uploads with the ACL public-read",
		less: "public_by = \"policy\"",
	},
	{
		name: CapChecksum, claimed: func(p *Provider) bool { return !p.RefusesChecksums }, harmless: true,
		refused: "it refuses checksum headers", honoured: "it takes checksum headers",
		less: "checksum_headers = false",
	},
}

// CapabilityProbes says where to look for what a store does.
type CapabilityProbes struct {
	Bucket string
	// AllPublic says that every object of the bucket is public whatever its ACL, so that the effect of one cannot be seen.
	AllPublic bool
}

// Operations are the requests of the round by operation, where nothing was left to remove.
func (w CapabilityProbes) Operations(provider *Provider) map[string]int64 {
	ops := map[string]int64{"PutObject": 4, "DeleteObjects": 1, "HeadObject": 3}
	if !w.AllPublic {
		ops["AnonymousGET"] = 1
	}
	ops[sweeping(provider)]++
	return ops
}

// examiner is one round of probes of what a store does.
type examiner struct {
	round
	CapabilityProbes
	found Capabilities
}

// Capabilities finds out what the store really does: whether the ACL of an object counts, whether a checksum header is taken,
// whether If-None-Match keeps an object from being overwritten, and whether DeleteObjects deletes. It writes three objects of fresh
// random names, outside of what Mastodon uses, and removes them, also when it fails or ctx ends. A store that refuses is no error.
func (s *Store) Capabilities(ctx context.Context, what CapabilityProbes) (Capabilities, error) {
	e := &examiner{round: newRound(s, what.Bucket), CapabilityProbes: what}
	if err := e.clean(ctx, e.run(ctx)); err != nil {
		return nil, err
	}
	return e.found, nil
}

func (e *examiner) run(ctx context.Context) error {
	if err := e.sweep(ctx, ""); err != nil {
		return err
	}
	object, err := e.write(ctx, "", "")
	if err != nil {
		return err
	}
	for _, probe := range []func(context.Context, string) error{e.acl, e.checksum, e.conditional, e.batch} {
		if err := probe(ctx, object); err != nil {
			return err
		}
	}
	return nil
}

func (e *examiner) saw(name string, answer Answer, status int) {
	e.found = append(e.found, Capability{Name: name, Answer: answer, Status: status})
}

// upload sends a probe object whose input has been changed, and returns the status: an answer that refuses is no error.
func (e *examiner) upload(ctx context.Context, key string, change func(*s3.PutObjectInput)) (int, error) {
	p := probePut(key, "")
	in := putInput(e.bucket, p, false)
	change(in)
	at := len(e.written)
	e.written = append(e.written, written{key: key})
	err := e.do(ctx, "PutObject", func(ctx context.Context) (err error) {
		if in.Body, err = newBody(p.Body, p.Size); err != nil {
			return err
		}
		out, err := e.api.PutObject(ctx, in)
		if err == nil {
			e.written[at].version = aws.ToString(out.VersionId)
		}
		return err
	})
	return e.status("upload a probe object to the bucket "+e.bucket, err)
}

// status is that of an answer, which may refuse; what is no answer is an error.
func (e *examiner) status(doing string, err error) (int, error) {
	var r *reply
	switch {
	case err == nil:
		return http.StatusOK, nil
	case !errors.As(err, &r), errors.Is(err, ErrUnreachable), errors.Is(err, ErrThrottled), errors.Is(err, ErrNoBucket):
		return 0, e.failed(doing, err)
	}
	return r.status, nil
}

// acl uploads an object with the ACL public-read where nothing else makes it public, and asks for it anonymously.
func (e *examiner) acl(ctx context.Context, _ string) error {
	key := freshKey("")
	status, err := e.upload(ctx, key, func(in *s3.PutObjectInput) { in.ACL = "public-read" })
	if err != nil {
		return err
	}
	answer := Honoured
	if !e.AllPublic {
		seen, err := e.anonymous(ctx, http.MethodGet, e.cfg.BucketURL(e.bucket)+"/"+key)
		if err != nil {
			return err
		}
		if seen != http.StatusOK {
			answer = Ignored
		}
	}
	if status != http.StatusOK {
		answer = Refused
	}
	e.saw(CapACL, answer, status)
	return nil
}

// checksum uploads an object with the CRC-32 of its bytes in a header.
func (e *examiner) checksum(ctx context.Context, _ string) error {
	sum := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(probeText)))
	status, err := e.upload(ctx, freshKey(""), func(in *s3.PutObjectInput) {
		in.ContentMD5, in.ChecksumCRC32 = nil, aws.String(base64.StdEncoding.EncodeToString(sum))
	})
	if err != nil {
		return err
	}
	e.saw(CapChecksum, either(status == http.StatusOK), status)
	return nil
}

// conditional uploads an object once more that is to be written only where there is none.
func (e *examiner) conditional(ctx context.Context, object string) error {
	status, err := e.upload(ctx, object, func(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") })
	if err != nil {
		return err
	}
	answer := Refused
	switch status {
	case http.StatusPreconditionFailed:
		answer = Honoured
	case http.StatusOK:
		answer = Ignored
	}
	e.saw(CapConditional, answer, status)
	return nil
}

// batch deletes all objects of the round at once, and looks for them.
func (e *examiner) batch(ctx context.Context, object string) error {
	code, err := e.deleteBatch(ctx, e.Store, e.written...)
	status, err := e.status("delete the probe objects in the bucket "+e.bucket, err)
	if err != nil {
		return err
	}
	answer := either(status == http.StatusOK && code == "")
	for _, key := range e.keys() {
		switch _, err := e.version(ctx, key); {
		case errors.Is(err, ErrNotFound):
			e.gone(key)
		case err != nil:
			return e.failed("look for a probe object", err)
		case answer == Honoured && key == object:
			answer = Ignored
		}
	}
	e.saw(CapBatch, answer, status)
	return nil
}

// keys are the keys that the round has written, each once.
func (r *round) keys() []string {
	var keys []string
	for _, w := range r.written {
		if !slices.Contains(keys, w.key) {
			keys = append(keys, w.key)
		}
	}
	return keys
}

// either is Honoured or Refused.
func either(yes bool) Answer {
	if yes {
		return Honoured
	}
	return Refused
}
