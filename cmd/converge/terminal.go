package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/fatih/color"
	"golang.org/x/term"
)

// terminal is where a command reads and prints. Off a terminal there is no colour and no control character.
type terminal struct {
	in       io.Reader
	out, err io.Writer // for people
	stdout   io.Writer // as it is, for programs
	lines    *jsonLines
	quiet    bool
}

// newTerminal returns one whose output is kept free of control characters that are not converge's own.
func newTerminal(in io.Reader, out, err io.Writer) *terminal {
	return &terminal{in: in, out: &screen{raw: out}, err: &screen{raw: err}, stdout: out}
}

// defaultWidth is the width in columns of what is no terminal.
const defaultWidth = 100

func (t *terminal) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(t.out, format, args...)
}

// interactive reports whether w is a terminal.
func interactive(w any) bool {
	f := fileBelow(w)
	return f != nil && term.IsTerminal(int(f.Fd()))
}

// live reports whether w is a terminal on which a line can be drawn anew.
func live(w any) bool { return interactive(w) && os.Getenv("TERM") != "dumb" }

// coloured reports whether w is a terminal that is to have colours (no-color.org).
func coloured(w any) bool { return live(w) && os.Getenv("NO_COLOR") == "" }

// width is the number of columns of the output.
func (t *terminal) width() int { return widthOf(t.out) }

func widthOf(w any) int {
	if f := fileBelow(w); f != nil {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			return w
		}
	}
	return defaultWidth
}

// paint returns a function that colours a text, where the output is to have colours.
func (t *terminal) paint(attrs ...color.Attribute) func(string) string {
	c := color.New(attrs...)
	if coloured(t.out) {
		c.EnableColor()
	} else {
		c.DisableColor()
	}
	return func(s string) string { return c.Sprint(s) }
}

// confirm asks a question that only yes answers. An interrupt answers no.
func (t *terminal) confirm(ctx context.Context, question string) bool {
	t.printf("%s Only 'yes' is accepted: ", question)
	answer := make(chan string, 1)
	go func() { // it stays behind when ctx ends first; the process is about to end too
		line, _ := bufio.NewReader(t.in).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case line := <-answer:
		return line == "yes"
	case <-ctx.Done():
		t.printf("\n")
		return false
	}
}

// printError prints a failure: of what, what happened, and what to do next.
func printError(w io.Writer, of string, err error) {
	heading := "Error"
	if of != "" {
		heading += ": " + of
	}
	_, _ = fmt.Fprintf(w, "%s\n%s", heading, indent(err.Error(), "  ", widthOf(w)))
	if fix := diag.Fix(err); fix != "" {
		_, _ = fmt.Fprint(w, indent(fix, "  -> ", widthOf(w)))
	}
	_, _ = fmt.Fprintln(w)
}

// indent wraps text to width, the first line behind lead and the others as far in.
func indent(text, lead string, width int) string {
	var b strings.Builder
	for _, para := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		line := lead
		for _, word := range strings.Fields(para) {
			if len(line)+len(word)+1 > width && strings.TrimSpace(line) != strings.TrimSpace(lead) {
				b.WriteString(strings.TrimRight(line, " ") + "\n")
				line = strings.Repeat(" ", len(lead))
			}
			line += word + " "
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		lead = strings.Repeat(" ", len(lead))
	}
	return b.String()
}
