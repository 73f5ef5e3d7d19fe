package trace

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// traced are the calls that the filter stops at. Those that open are stopped at only when they may change something.
var traced = map[uint64]string{
	unix.SYS_OPEN: "open", unix.SYS_OPENAT: "openat", unix.SYS_OPENAT2: "openat2", unix.SYS_CREAT: "creat",
	unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite64", unix.SYS_WRITEV: "writev", unix.SYS_PWRITEV: "pwritev",
	unix.SYS_PWRITEV2: "pwritev2", unix.SYS_SENDFILE: "sendfile", unix.SYS_SPLICE: "splice",
	unix.SYS_COPY_FILE_RANGE: "copy_file_range", unix.SYS_TRUNCATE: "truncate", unix.SYS_FTRUNCATE: "ftruncate",
	unix.SYS_FALLOCATE: "fallocate", unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_SYNC: "sync",
	unix.SYS_SYNCFS: "syncfs", unix.SYS_MSYNC: "msync",
	unix.SYS_RENAME: "rename", unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2", unix.SYS_LINK: "link",
	unix.SYS_LINKAT: "linkat", unix.SYS_SYMLINK: "symlink", unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_UNLINK: "unlink",
	unix.SYS_UNLINKAT: "unlinkat", unix.SYS_RMDIR: "rmdir", unix.SYS_MKDIR: "mkdir", unix.SYS_MKDIRAT: "mkdirat",
	unix.SYS_MKNOD: "mknod", unix.SYS_MKNODAT: "mknodat",
	unix.SYS_CHMOD: "chmod", unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHMODAT: "fchmodat", unix.SYS_FCHMODAT2: "fchmodat2",
	unix.SYS_CHOWN: "chown", unix.SYS_FCHOWN: "fchown", unix.SYS_LCHOWN: "lchown", unix.SYS_FCHOWNAT: "fchownat",
	unix.SYS_UTIMENSAT: "utimensat", unix.SYS_FLOCK: "flock", unix.SYS_SETXATTR: "setxattr",
	unix.SYS_LSETXATTR: "lsetxattr", unix.SYS_FSETXATTR: "fsetxattr",
	unix.SYS_CONNECT: "connect", unix.SYS_SENDTO: "sendto", unix.SYS_SENDMSG: "sendmsg", unix.SYS_SENDMMSG: "sendmmsg",
	unix.SYS_EXECVE: "execve", unix.SYS_EXECVEAT: "execveat",
}

// changing are the flags of open(2) that say that the file may be changed.
const changing = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC

// Offsets in struct seccomp_data (seccomp(2)).
const (
	dataNumber = 0
	dataArgs   = 16
)

// filter is the program in BPF (seccomp(2), linux/filter.h): it compares the call's number with those of traced.
func filter() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		bits  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	trace := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_TRACE}
	allow := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}
	prog := []unix.SockFilter{
		{Code: load, K: dataNumber},
		{Code: equal, K: unix.SYS_OPENAT, Jf: 4},
		{Code: load, K: dataArgs + 2*8}, // openat's flags
		{Code: bits, K: changing, Jf: 1},
		trace,
		allow,
	}
	for number := range traced {
		if number != unix.SYS_OPENAT {
			prog = append(prog, unix.SockFilter{Code: equal, K: uint32(number), Jf: 1}, trace)
		}
	}
	return append(prog, allow)
}

// installFilter has the program, which stands before its first instruction, install the filter: the instruction is
// replaced by one that makes a system call, and then put back, as are the registers.
func installFilter(pid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	prog := filter()
	code := unsafe.Slice((*byte)(unsafe.Pointer(&prog[0])), len(prog)*int(unsafe.Sizeof(prog[0])))
	const belowStack = 64 << 10 // nothing is there yet, and the stack grows when it is written to
	at := regs.Rsp - belowStack
	header := make([]byte, 16) // struct sock_fprog
	binary.LittleEndian.PutUint16(header, uint16(len(prog)))
	binary.LittleEndian.PutUint64(header[8:], at+16)
	if _, err := unix.PtracePokeData(pid, uintptr(at), append(header, code...)); err != nil {
		return fmt.Errorf("write the filter into its stack: %w", err)
	}
	was := make([]byte, 2)
	if _, err := unix.PtracePeekText(pid, uintptr(regs.Rip), was); err != nil {
		return err
	}
	if _, err := unix.PtracePokeText(pid, uintptr(regs.Rip), []byte{0x0f, 0x05}); err != nil { // syscall
		return err
	}
	call := regs
	call.Orig_rax = ^uint64(0)
	call.Rax, call.Rdi, call.Rsi, call.Rdx = unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, at
	if err := unix.PtraceSetRegs(pid, &call); err != nil {
		return err
	}
	if err := unix.PtraceSingleStep(pid); err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := wait(pid, &status); err != nil {
		return err
	}
	if err := unix.PtraceGetRegs(pid, &call); err != nil {
		return err
	}
	if call.Rax != 0 {
		return fmt.Errorf("install the filter, which takes root's rights: %w", unix.Errno(-int64(call.Rax)))
	}
	if _, err := unix.PtracePokeText(pid, uintptr(regs.Rip), was); err != nil {
		return err
	}
	regs.Orig_rax = ^uint64(0)
	return unix.PtraceSetRegs(pid, &regs)
}
