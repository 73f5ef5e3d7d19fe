package host

import "time"

// SystemWithFaults is System with a hook that is asked before each step of a commit.
func SystemWithFaults(fail func(step, path string) error) Files { return &systemFiles{fail: fail} }

// SystemCommandsWithGrace is SystemCommands with another time between SIGTERM and SIGKILL.
func SystemCommandsWithGrace(d time.Duration) Commands { return systemCommands{d} }

// TempPrefix is what the temporary names for a name begin with.
var TempPrefix = tempPrefix
