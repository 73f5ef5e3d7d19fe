package trace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// group returns the process that a thread belongs to.
func (t *tracer) group(tid int) int {
	if pid, ok := t.groups[tid]; ok {
		return pid
	}
	pid := tid
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid)) // gone where it was killed
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "Tgid:"); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
				pid = n
			}
		}
	}
	t.groups[tid] = pid
	return pid
}

// describe says what a thread is about to call, and whether it counts: whether the program itself calls, or a child of it
// that is about to become another program.
func (t *tracer) describe(tid int, regs *unix.PtraceRegs) (Call, bool) {
	p := process{tid: tid}
	c := Call{Name: traced[regs.Orig_rax]}
	args := [...]uint64{regs.Rdi, regs.Rsi, regs.Rdx, regs.R10, regs.R8, regs.R9}
	own := t.group(tid) == t.pid
	switch c.Name {
	case "execve":
		c.Kind, c.Path = Exec, p.text(args[0])
		return c, !own && parent(tid) == t.pid
	case "connect":
		c.Kind, c.Path = Socket, p.address(args[1], args[2])
	case "sendto", "sendmsg", "sendmmsg":
		c.Kind, c.Path = Socket, p.descriptor(args[0])
	case "write", "pwrite64", "writev", "pwritev", "pwritev2":
		return p.write(c, args[0], args[2], own)
	case "sendfile", "splice":
		c.Kind, c.Path = Socket, p.descriptor(args[0])
	case "copy_file_range":
		c.Path = p.descriptor(args[2])
	case "fsync", "fdatasync", "syncfs", "ftruncate", "fallocate", "fchmod", "fchown", "flock", "fsetxattr":
		c.Path = p.descriptor(args[0])
	case "openat", "unlinkat", "mkdirat", "mknodat", "fchmodat", "fchmodat2", "fchownat", "utimensat":
		c.Path = p.at(args[0], args[1])
	case "openat2":
		c.Path = p.at(args[0], args[1])
		return c, own && p.word(args[2])&changing != 0 // struct open_how begins with the flags
	case "open":
		c.Path = p.at(cwd, args[0])
		return c, own && args[1]&changing != 0
	case "renameat", "renameat2", "linkat":
		c.From, c.Path = p.at(args[0], args[1]), p.at(args[2], args[3])
	case "rename", "link":
		c.From, c.Path = p.at(cwd, args[0]), p.at(cwd, args[1])
	case "symlinkat":
		c.From, c.Path = p.text(args[0]), p.at(args[1], args[2])
	case "symlink":
		c.From, c.Path = p.text(args[0]), p.at(cwd, args[1])
	case "sync", "msync":
	default: // those whose first argument is a path
		c.Path = p.at(cwd, args[0])
	}
	return c, own
}

// cwd stands for the working directory in place of a descriptor.
const cwd = ^uint64(99) // AT_FDCWD, -100

// write describes a write by what its descriptor is. What the Go runtime writes to wake itself up does not count.
func (p process) write(c Call, fd, size uint64, own bool) (Call, bool) {
	c.Path = p.descriptor(fd)
	if c.Name == "write" || c.Name == "pwrite64" {
		c.Size = int(size)
	}
	switch pipe := strings.HasPrefix(c.Path, "pipe:"); {
	case pipe && (fd == 1 || fd == 2):
		c.Kind = Print
	case strings.HasPrefix(c.Path, "socket:"):
		c.Kind = Socket
	case pipe, strings.HasPrefix(c.Path, "anon_inode:"):
		return c, false
	}
	return c, own
}

// parent returns the process that started a thread's process; 0 where it has ended.
func parent(tid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // proc_pid_stat(5): state, ppid
	pid, _ := strconv.Atoi(fields[1])
	return pid
}

// process is a thread whose memory and descriptors can be read, because it stands still.
type process struct{ tid int }

// memory returns up to n bytes at an address.
func (p process) memory(addr uint64, n int) []byte {
	buf := make([]byte, n)
	local := []unix.Iovec{{Base: &buf[0], Len: uint64(n)}}
	got, err := unix.ProcessVMReadv(p.tid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: n}}, 0)
	if err != nil {
		return nil
	}
	return buf[:got]
}

// text returns the string at an address, which ends with a NUL. It is read by pieces that end where a page may.
func (p process) text(addr uint64) string {
	const page = 4096
	var out []byte
	for len(out) < page {
		piece := p.memory(addr, int(page-addr%page))
		end := bytes.IndexByte(piece, 0)
		if end >= 0 || len(piece) == 0 {
			return string(append(out, piece[:max(end, 0)]...))
		}
		out, addr = append(out, piece...), addr+uint64(len(piece))
	}
	return string(out)
}

func (p process) word(addr uint64) uint64 {
	b := p.memory(addr, 8)
	if len(b) < 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// descriptor returns what an open descriptor is: a path, or a thing of the kernel's such as "socket:[1234]".
func (p process) descriptor(fd uint64) string {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.tid, int32(fd)))
	if err != nil {
		return fmt.Sprintf("descriptor %d", int32(fd))
	}
	return link
}

// at returns the path that a name and the descriptor of a directory mean.
func (p process) at(fd, name uint64) string {
	text := p.text(name)
	switch {
	case filepath.IsAbs(text):
		return filepath.Clean(text)
	case int32(fd) == unix.AT_FDCWD:
		dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.tid)) // it is there as long as the thread stands still
		return filepath.Join(dir, text)
	}
	return filepath.Join(p.descriptor(fd), text)
}

// address words the address that a connect is for.
func (p process) address(addr, size uint64) string {
	b := p.memory(addr, int(min(size, 128)))
	if len(b) < 2 {
		return "an unknown address"
	}
	switch binary.LittleEndian.Uint16(b) {
	case unix.AF_UNIX:
		name, _, _ := bytes.Cut(b[2:], []byte{0})
		return "unix:" + string(name)
	case unix.AF_INET:
		if len(b) >= 8 {
			ip, _ := netip.AddrFromSlice(b[4:8])
			return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[2:])).String()
		}
	case unix.AF_INET6:
		if len(b) >= 24 {
			ip, _ := netip.AddrFromSlice(b[8:24])
			return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[2:])).String()
		}
	}
	return fmt.Sprintf("an address of family %d", binary.LittleEndian.Uint16(b))
}
