//go:build !(linux && amd64)

package trace

import "errors"

// Run needs registers and calling conventions of one processor, and knows those of amd64.
func Run(Program) (Result, error) {
	return Result{}, errors.New("tracing system calls works on Linux on amd64 alone; run this test there")
}
