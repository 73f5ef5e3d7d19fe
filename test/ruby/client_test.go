package ruby

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"testing"
)

// client is one process of client.rb.
type client struct {
	orders  *json.Encoder
	answers *json.Decoder
	said    bytes.Buffer // by Ruby, of what went wrong
}

// startClient starts the program, which trusts the authority of caFile alone and has nothing else in its environment. It ends
// with the test.
func startClient(t *testing.T, caFile string) *client {
	t.Helper()
	c := &client{}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "ruby", "-W0", labDir+"/client.rb")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "TMPDIR=/tmp", "SSL_CERT_FILE=" + caFile}
	cmd.Stderr = &c.said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Ruby: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close() // which ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("Ruby: %v\n%s", err, c.said.String())
		}
	})
	c.orders, c.answers = json.NewEncoder(in), json.NewDecoder(out)
	return c
}

// order is one command of client.rb with its arguments.
type order map[string]any

// ask has an order carried out: its result comes into result, unless that is nil. The error is Ruby's own, "Class: message".
func (c *client) ask(t *testing.T, o order, result any) error {
	t.Helper()
	if err := c.orders.Encode(o); err != nil {
		t.Fatalf("tell Ruby to %v: %v", o["do"], err)
	}
	var answer struct {
		OK    json.RawMessage
		Error *string
	}
	if err := c.answers.Decode(&answer); err != nil {
		if errors.Is(err, io.EOF) {
			t.Fatalf("Ruby ended while it did %v", o)
		}
		t.Fatalf("read what Ruby says of %v: %v", o["do"], err)
	}
	if answer.Error != nil {
		return errors.New(*answer.Error)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer.OK, result); err != nil {
		t.Fatalf("read what Ruby says of %v: %v", o["do"], err)
	}
	return nil
}

// must is ask for what has to work.
func (c *client) must(t *testing.T, o order, result any) {
	t.Helper()
	if err := c.ask(t, o, result); err != nil {
		t.Fatalf("%v: %v", o, err)
	}
}
