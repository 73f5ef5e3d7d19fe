// Package trace runs a program under ptrace(2), and can kill it, have a system call fail, or do something else, at any of
// those system calls that change something or talk to somebody: the ones after which the world is another one.
//
// The program is the real one: its first instruction is replaced for a moment to have it install a seccomp(2) filter, and
// from then on the kernel stops it at the calls in question and at no others.
package trace

import "time"

// Kind is what a call acts on.
type Kind int

// The kinds of calls.
const (
	// File calls change files, directories or locks, or make them last.
	File Kind = iota
	// Socket calls connect and send.
	Socket
	// Exec is a program being started, by a child process that is not it yet.
	Exec
	// Print is a write to the standard output or error.
	Print
)

// String names the kind.
func (k Kind) String() string { return [...]string{"file", "socket", "exec", "print"}[k] }

// Call is one system call that the program is about to make.
type Call struct {
	// Index counts the calls of all threads together, from 1.
	Index int
	Kind  Kind
	Name  string // "renameat2"
	// Path is the file it acts on, by its whole path: where it was opened for a call on a descriptor, the new name for a
	// rename or a link. Of a connect it is the address; of other socket calls the descriptor.
	Path string
	// From is the old name of a rename or a link, and the target of a symbolic link.
	From string
	// Size is how many bytes a write is to write.
	Size int
}

// String words the call: "renameat2 /etc/.converge-1 -> /etc/x".
func (c Call) String() string {
	s := c.Name + " " + c.Path
	if c.From != "" {
		s = c.Name + " " + c.From + " -> " + c.Path
	}
	return s
}

// Verdict is what is to become of a call. The zero value lets it be.
type Verdict struct {
	// Before is done first, while the program stands still.
	Before func()
	// Kill kills the program with SIGKILL instead of letting it make the call.
	Kill bool
	// Half lets a write write the first half of its bytes, and then kills the program. Calls that are no write are killed
	// before they are made.
	Half bool
	// Errno has the call fail with that number, 1 or higher, without being made.
	Errno int
	// Signal, when it is not 0, is sent to the program before the call is made.
	Signal int
}

// Program is what is to be run. Nothing is inherited from the environment.
type Program struct {
	Args []string // the program, by its whole path, and its arguments
	Env  []string
	Dir  string
	// Decide is asked about each call. It is called by one goroutine, while the thread that is to make the call stands
	// still and the others go on.
	Decide func(Call) Verdict
	// Limit is how long the program may run; then it is killed, and Run fails. 0 is for ever.
	Limit time.Duration
}

// Result is how a program ended.
type Result struct {
	Calls  []Call
	Killed bool // by a verdict
	Code   int  // its exit status; -1 where a signal ended it
	Stdout string
	Stderr string
}
