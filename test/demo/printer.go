package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// printer tells the story.
type printer struct {
	out     io.Writer
	styled  bool
	section int
}

const (
	bold  = "1"
	dim   = "2"
	green = "32"
	red   = "31"
	cyan  = "36"
)

func isTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func (p *printer) style(code, s string) string {
	if !p.styled {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *printer) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.out, format, args...) }

func (p *printer) title(s string) {
	p.printf("%s\n%s\n", p.style(bold, s), strings.Repeat("=", len(s)))
}

// heading begins a section: what is shown, and what it teaches.
func (p *printer) heading(s, why string) {
	p.section++
	s = fmt.Sprintf("%d. %s", p.section, s)
	p.printf("\n%s\n%s\n", p.style(bold, s), strings.Repeat("-", len(s)))
	if why != "" {
		p.printf("%s\n", why)
	}
}

func (p *printer) note(format string, args ...any) {
	p.printf("%s\n", p.style(dim, fmt.Sprintf(format, args...)))
}

// command shows what a user would type.
func (p *printer) command(line string) {
	p.printf("\n%s %s\n", p.style(cyan, "$"), p.style(bold, line))
}

// output shows what a command printed, a little to the right.
func (p *printer) output(s string) {
	for _, line := range strings.Split(strings.TrimRight(s, "\n"), "\n") {
		if line != "" {
			line = "  " + line
		}
		p.printf("%s\n", line)
	}
}

// ok says that a check held.
func (p *printer) ok(format string, args ...any) {
	p.printf("%s %s\n", p.style(green, "✓"), fmt.Sprintf(format, args...))
}

// done ends the story.
func (p *printer) done(took time.Duration) {
	p.printf("\n%s\n", p.style(bold+";"+green, fmt.Sprintf("All of it held. The story took %s.", took.Round(100*time.Millisecond))))
}
