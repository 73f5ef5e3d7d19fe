package nginxtest

import "testing"

// TestPortsAreGivenOnce: a port is nobody else's as long as the test runs that has it, and is free again afterwards.
func TestPortsAreGivenOnce(t *testing.T) {
	var port int
	t.Run("one test", func(t *testing.T) {
		port = FreePort(t)
		if taken(t, port) || reserve(t, port) {
			t.Errorf("%d is taken, or given away twice", port)
		}
	})
	if !reserve(t, port) {
		t.Errorf("%d is not free after its test", port)
	}
}
