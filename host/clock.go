package host

import (
	"time"

	"golang.org/x/sys/unix"
)

type systemClock struct{}

// SystemClock returns the clocks of this host.
func SystemClock() Clock { return systemClock{} }

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) SinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // it has no way to fail: clock_gettime(2)
	}
	return time.Duration(ts.Nano())
}
