package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// order is what a worker is told to try, in a world that is as it was at the beginning.
type order struct {
	Fault Fault
}

// report is what came of an order.
type report struct {
	Failure string // what is wrong; "" where all is as it should be
	Calls   []call // of the run that was disturbed
	Reached bool   // whether the run came to the fault
	Code    int    // its exit code
	Printed string // what all runs printed
}

// call is one call of an undisturbed run, worded without what changes from run to run.
type call struct{ Kind, Text string }

// worker is a process with namespaces of its own, in which one world after the other takes place.
type worker struct {
	cmd     *exec.Cmd
	orders  *json.Encoder
	reports *json.Decoder
	closers []*os.File
}

// startWorker starts a worker for a story.
func startWorker(story, dir string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	bin, err := converge()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		return nil, err
	}
	if err := os.Link(filepath.Join(bin, "converge"), filepath.Join(dir, "bin/converge")); err != nil {
		return nil, err
	}
	ordersOut, ordersIn, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	reportsOut, reportsIn, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	w := &worker{
		cmd:    exec.Command(self, workerArg, story, dir),
		orders: json.NewEncoder(ordersIn), reports: json.NewDecoder(reportsOut), closers: []*os.File{ordersIn, reportsOut},
	}
	w.cmd.Stderr = os.Stderr
	w.cmd.ExtraFiles = []*os.File{ordersOut, reportsIn}
	w.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = w.cmd.Start()
	_, _ = ordersOut.Close(), reportsIn.Close()
	if err != nil {
		return nil, fmt.Errorf("start a worker, which takes root's rights: %w", err)
	}
	return w, nil
}

func (w *worker) try(f Fault) (report, error) {
	var r report
	if err := w.orders.Encode(order{f}); err != nil {
		return r, err
	}
	err := w.reports.Decode(&r)
	return r, err
}

// close has the worker end, and everything in its namespaces with it.
func (w *worker) close() error {
	for _, f := range w.closers {
		_ = f.Close()
	}
	return w.cmd.Wait()
}

// pool is a story's workers.
type pool struct {
	t       *testing.T
	story   string
	workers []*worker
}

func newPool(t *testing.T, story string, size int) *pool {
	t.Helper()
	p := &pool{t: t, story: story}
	dir := t.TempDir()
	for i := range size {
		w, err := startWorker(story, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := w.close(); err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		})
		p.workers = append(p.workers, w)
	}
	return p
}

// calls are what an undisturbed run does.
func (p *pool) calls() []call {
	p.t.Helper()
	r, err := p.workers[0].try(Fault{})
	if err != nil {
		p.t.Fatal(err)
	}
	if r.Failure != "" {
		p.t.Fatalf("without any fault: %s\n%s", r.Failure, r.Printed)
	}
	return r.Calls
}

// group is faults of one sort, and what became of them.
type group struct {
	name   string
	every  int
	faults []Fault

	points, reached int
}

// choose returns a group of as many of the faults as limit says, evenly chosen.
func choose(name string, faults []Fault, limit int) *group {
	g := &group{name: name, points: len(faults), every: max(1, (len(faults)+limit-1)/limit)}
	for i := len(faults) % g.every; i < len(faults); i += g.every {
		g.faults = append(g.faults, faults[i])
	}
	return g
}

// shown is how many failures are shown in full.
const shown = 5

// try tries the faults of all groups, as many at once as there are workers: most of the time they wait.
func (p *pool) try(groups ...*group) {
	p.t.Helper()
	type task struct {
		*group
		Fault
	}
	queue := make(chan task)
	var mu sync.Mutex
	failures := 0
	var working sync.WaitGroup
	for _, w := range p.workers {
		working.Go(func() {
			for task := range queue {
				r, err := w.try(task.Fault)
				if err != nil {
					r.Failure = errors.Join(errors.New("the worker ended"), err).Error()
				}
				mu.Lock()
				if r.Reached {
					task.reached++
				}
				if r.Failure != "" {
					if failures++; failures > shown {
						r.Printed = ""
					}
					p.t.Errorf("%s: %s\n%s", task.Fault, r.Failure, r.Printed)
				}
				mu.Unlock()
			}
		})
	}
	for _, g := range groups {
		for _, f := range g.faults {
			queue <- task{g, f}
		}
	}
	close(queue)
	working.Wait()
	for _, g := range groups {
		p.t.Logf("%s, %s: %d points, every %d. tried: %d, of which %d were reached", p.story, g.name, g.points, g.every, len(g.faults), g.reached)
	}
}
