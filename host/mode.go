package host

import "io/fs"

// modeBits pairs the special bits of Go with those of the kernel (chmod(2)), which stand elsewhere in the number.
var modeBits = [...]struct {
	mode fs.FileMode
	bits uint32
}{
	{fs.ModeSetuid, 0o4000},
	{fs.ModeSetgid, 0o2000},
	{fs.ModeSticky, 0o1000},
}

// ModeFromBits returns the mode that an octal number such as 0o2750 means to chmod(2). Bits above 0o7777 are ignored.
func ModeFromBits(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for _, b := range modeBits {
		if bits&b.bits != 0 {
			mode |= b.mode
		}
	}
	return mode
}

// ModeBits returns the octal number that chmod(2) takes for mode: the inverse of ModeFromBits.
func ModeBits(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	for _, b := range modeBits {
		if mode&b.mode != 0 {
			bits |= b.bits
		}
	}
	return bits
}
