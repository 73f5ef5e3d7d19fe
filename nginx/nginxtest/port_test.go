package nginxtest

import "testing"

// TestPortsAreGivenOnce: a port is nobody else's as long as the test runs that has it, and is free again afterwards.
func TestPortsAreGivenOnce(t *testing.T) {
	var port int
	t.Run("one test", func(t *testing.T) {
		port = FreePort(t)
		if _, err := reserve(port); err == nil || taken(port) {
			t.Errorf("%d is taken, or given away twice", port)
		}
	})
	release, err := reserve(port)
	if err != nil {
		t.Fatalf("%d is not free after its test: %v", port, err)
	}
	release()
}
