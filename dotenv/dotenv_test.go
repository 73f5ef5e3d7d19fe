package dotenv

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	"github.com/converge-agent/converge/diag"
)

// vector is one text with what each reader finds in it; nil where that reader was not asked.
type vector struct {
	Text       string
	Ruby, Node map[string]string
}

// pairs reads a file of [text, variables] lines.
func pairs(t *testing.T, path string) (texts []string, found []map[string]string) {
	t.Helper()
	for _, line := range jsonLines(t, path) {
		var text string
		var vars map[string]string
		if err := json.Unmarshal(line, &[]any{&text, &vars}); err != nil {
			t.Fatalf("%s: %v in %s", path, err, line)
		}
		texts, found = append(texts, text), append(found, vars)
	}
	return texts, found
}

func jsonLines(t *testing.T, path string) [][]byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(content), []byte("\n"))
}

func vectors(t *testing.T) []vector {
	t.Helper()
	var out []vector
	texts, found := pairs(t, "testdata/ruby-3.2.0.jsonl")
	for i := range texts {
		out = append(out, vector{Text: texts[i], Ruby: found[i]})
	}
	texts, found = pairs(t, "testdata/node-17.4.2.jsonl")
	for i := range texts {
		out = append(out, vector{Text: texts[i], Node: found[i]})
	}
	for _, line := range jsonLines(t, "testdata/readers.jsonl") {
		var v vector
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if len(out) < 300 {
		t.Fatalf("only %d vectors", len(out))
	}
	return out
}

// unlike says where the vectors and this package differ on purpose.
func unlike(v vector) string {
	switch {
	case strings.Contains(v.Text, "$(echo"):
		return "no command is run"
	case strings.HasPrefix(v.Text, "\ufeff") && v.Ruby != nil:
		return "the vector was read from a string; from a file Ruby dotenv strips the byte order mark"
	}
	return ""
}

func TestReadersAgreeWithMeasurements(t *testing.T) {
	for _, v := range vectors(t) {
		f := Parse([]byte(v.Text))
		if got := f.Values(); v.Ruby != nil && unlike(v) == "" && !maps.Equal(got, v.Ruby) {
			t.Errorf("%q as Ruby reads it: got %q, want %q", v.Text, got, v.Ruby)
		}
		if got := f.readNode(); v.Node != nil && !maps.Equal(got, v.Node) {
			t.Errorf("%q as Node reads it: got %q, want %q", v.Text, got, v.Node)
		}
		if v.Ruby == nil || v.Node == nil {
			continue
		}
		for key := range v.Ruby {
			if n, ok := v.Node[key]; (!ok || n != v.Ruby[key]) && f.Doubt(key) == "" {
				t.Errorf("%q: the readers differ about %s, and there is no doubt of it", v.Text, key)
			}
		}
	}
}

func TestGet(t *testing.T) {
	for _, tt := range []struct {
		name, text, want, doubt string
		absent                  bool
	}{
		{name: "plain", text: "A=1\n", want: "1"},
		{name: "last wins", text: "A=1\nA=2\n", want: "2"},
		{name: "byte order mark", text: "\ufeffA=1\n", want: "1"},
		{name: "several lines", text: "A='x\ny'\n", want: "x\ny"},
		{name: "absent", text: "#A=1\n", absent: true},
		{name: "empty is not absent", text: "A=\n", want: ""},
		{name: "command is not run", text: "A=$(echo hi)\n", want: "$(echo hi)", doubt: "Ruby runs a command in it"},
		{name: "escaped command", text: `A=\$(echo hi)`, want: "$(echo hi)", doubt: "Node reads it differently from Ruby"},
		{name: "variable", text: "B=x\nA=$B/y\n", want: "x/y", doubt: "Ruby puts the variable B into it"},
		{name: "newline escape", text: `A="x\ny"`, want: `x\ny`, doubt: "Node reads it differently from Ruby"},
		{name: "key alone", text: "A\n", want: "", doubt: "Node reads it differently from Ruby"},
		{name: "refused export", text: "export A=\n", absent: true, doubt: "Ruby refuses the whole file, for it is exported without a value"},
		{name: "settled export", text: "A=1\nexport A\n", want: "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := Parse([]byte(tt.text))
			got, ok := f.Get("A")
			if got != tt.want || ok == tt.absent {
				t.Errorf("Get = %q, %v; want %q, %v", got, ok, tt.want, !tt.absent)
			}
			if d := f.Doubt("A"); d != tt.doubt {
				t.Errorf("Doubt = %q, want %q", d, tt.doubt)
			}
		})
	}
}

func TestSet(t *testing.T) {
	for _, tt := range []struct{ name, text, value, want string }{
		{"empty file", "", "1", "A=1\n"},
		{"appended", "B=2\n", "1", "B=2\nA=1\n"},
		{"appended to an open line", "B=2", "1", "B=2\nA=1\n"},
		{"appended with CR LF", "B=2\r\nC=3", "1", "B=2\r\nC=3\r\nA=1\r\n"},
		{"behind a byte order mark", "\ufeff", "1", "\ufeffA=1\n"},
		{"in place", "# top\nB=2\nA=0\n\nC=3\n", "1", "# top\nB=2\nA=1\n\nC=3\n"},
		{"in place with CR LF", "A=0\r\nB=2\r\n", "1", "A=1\r\nB=2\r\n"},
		{"further down with CR LF", "B=2\r\n\r\nA=0\r\nC=3\r\n", "1", "B=2\r\n\r\nA=1\r\nC=3\r\n"},
		{"the last of several", "A=0\nB=2\nA=00\nC=3\n", "1", "B=2\nA=1\nC=3\n"},
		{"several in a row", "A=0\nA=00\nA=000\n", "1", "A=1\n"},
		{"right already", "A = \"1\"   # one\nB=2\n", "1", "A = \"1\"   # one\nB=2\n"},
		{"right but double", "A=1\nA=1\n", "1", "A=1\n"},
		{"comment stays", "A=0 # note\n", "1", "A=1 # note\n"},
		{"comment moves off the value", "A=0# note\n", "1", "A=1 # note\n"},
		{"comment of an empty value", "A= # note\n", "1", "A=1 # note\n"},
		{"export and indent stay", "  export A=0\n", "1", "  export A=1\n"},
		{"yaml separator", "A: 0\n", "1", "A=1\n"},
		{"several lines become one", "A='x\ny'\nB=2\n", "1", "A=1\nB=2\n"},
		{"double with several lines", "A='x\n#y'\nB=2\nA=3\n", "1", "B=2\nA=1\n"},
		{"comment line below an empty value", "A=\n# note\n", "1", "A=1\n# note\n"},
		{"doubtful though equal", "B=1\nA=$B\n", "1", "B=1\nA=1\n"},
		{"key alone", "A\nB=2\n", "1", "A=1\nB=2\n"},
		{"export without value goes", "export A\nB=2\n", "1", "B=2\nA=1\n"},
		{"to empty", "A=0\n", "", "A=\n"},
		{"empty, new", "B=2\n", "", "B=2\nA=\n"},
		{"quotes", "A=0\n", "a b#c", "A='a b#c'\n"},
		{"commented out is no line of it", "#A=0\n", "1", "#A=0\nA=1\n"},
		{"unknown lines", "?? what\nA=0\n!!\n", "1", "?? what\nA=1\n!!\n"},
		{"quoted text that looks like it", "B='x\nA=0\n'\n", "1", "B='x\nA=0\n'\nA=1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := Parse([]byte(tt.text))
			if err := f.Set("A", tt.value); err != nil {
				t.Fatal(err)
			}
			if got := string(f.Bytes()); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestUnset(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"absent", "B=2\n#A=1\n", "B=2\n#A=1\n"},
		{"one", "B=2\nA=1\nC=3\n", "B=2\nC=3\n"},
		{"all", "A=0\nB=2\nA=1\n", "B=2\n"},
		{"without a newline", "B=2\nA=1", "B=2\n"},
		{"with its comment", "A=1 # note\n# other\n", "# other\n"},
		{"CR LF", "A=1\r\nB=2\r\n", "B=2\r\n"},
		{"further down with CR LF", "B=2\r\n\r\nA=1 # n\r\nC=3\r\n", "B=2\r\n\r\nC=3\r\n"},
		{"several lines", "A=\"x\ny\" # z\nB=2\n", "B=2\n"},
		{"export without value", "export A\nB=2\n", "B=2\n"},
		{"behind a byte order mark", "\ufeffA=1\nB=2\n", "\ufeffB=2\n"},
		{"blank lines around it stay", "\n\nA=1\n\nB=2\n", "\n\n\nB=2\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := Parse([]byte(tt.text))
			if err := f.Unset("A"); err != nil {
				t.Fatal(err)
			}
			if got := string(f.Bytes()); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEntangledEditsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		edit       func(*File) error
	}{
		{"an open quote would swallow the new line", "B='open\n", func(f *File) error { return f.Set("A", "#x") }},
		{"an empty value would take the next line", "B=\nA=1\n'x'\n", func(f *File) error { return f.Unset("A") }},
		{"it stands in Node's backticks", "B=`\nA=1\n`\n", func(f *File) error { return f.Set("A", "2") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := Parse([]byte(tt.text))
			if err := tt.edit(f); !errors.Is(err, ErrEntangled) || diag.Fix(err) == "" {
				t.Errorf("got %v, want ErrEntangled with a fix", err)
			}
			if got := string(f.Bytes()); got != tt.text {
				t.Errorf("the file became %q", got)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"empty", "", ""},
		{"key", "K005ab/cd+EF=", "K005ab/cd+EF="},
		{"URL", "https://s3.example.com:9000/a_b%20c@d,e", "https://s3.example.com:9000/a_b%20c@d,e"},
		{"blank", "My Server", "'My Server'"},
		{"dollar", "pa$$w0rd", "'pa$$w0rd'"},
		{"hash", "a#b", "'a#b'"},
		{"json", `{"a":"b"}`, `'{"a":"b"}'`},
		{"backslash", `a\b`, `'a\b'`},
		{"tilde and star", "~*", "'~*'"},
		{"umlaut", "Österreich", "'Österreich'"},
		{"apostrophe", "it's a # b", `"it's a # b"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Quote(tt.value)
			if err != nil || got != tt.want {
				t.Errorf("got %s, %v; want %s", got, err, tt.want)
			}
		})
	}
	for _, tt := range []struct{ name, value, says string }{
		{"newline", "s3cr\net", "a line break"},
		{"carriage return", "s3cr\ret", "a line break"},
		{"tab", "s3cr\tet", "a tab"},
		{"nul", "s3cr\x00et", "does not print"},
		{"no-break space", "s3cr\u00a0et", "does not print"},
		{"not UTF-8", "s3cr\xffet", "not UTF-8"},
		{"trailing backslash", `s3cret\ \`, "a backslash at its end"},
		{"both quotes", `s3'cr"et`, "a single quote together"},
		{"quote and dollar", `s3'cr$et`, "a single quote together"},
		{"quote and trailing backslash", `s3'cret\`, "a single quote together"},
	} {
		t.Run("refused: "+tt.name, func(t *testing.T) {
			f := Parse([]byte("A=0\n"))
			err := f.Set("A", tt.value)
			if err == nil || !strings.Contains(err.Error(), tt.says) || diag.Fix(err) == "" {
				t.Errorf("got %v, want an error with %q and a fix", err, tt.says)
			}
			if err != nil && strings.Contains(err.Error()+diag.Fix(err), "s3") {
				t.Errorf("the error shows the value: %v", err)
			}
			if got := string(f.Bytes()); got != "A=0\n" {
				t.Errorf("the file became %q", got)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, key := range []string{"", "1A", "A B", "A-B", "A.B", "A=", "Ä", "A\n"} {
		if err := Parse(nil).Set(key, "1"); err == nil {
			t.Errorf("the name %q was taken", key)
		}
	}
}

// combinations are values made of what the readers treat specially.
func combinations() []string {
	var out []string
	special := []string{"a", " ", "'", `"`, `\`, "$", "#", "=", "`", "(", "{A}", "é"}
	for _, x := range special {
		for _, y := range special {
			for _, z := range special {
				out = append(out, x+y+z)
			}
		}
	}
	return out
}

func TestSetThenGetIsTheValue(t *testing.T) {
	accepted := 0
	property := func(value string) bool {
		f := Parse([]byte("A='old\nvalue' # why\nB=\"b\"\n"))
		if f.Set("A", value) != nil {
			return true
		}
		accepted++
		got, ok := f.Get("A")
		once := f.Bytes()
		err := f.Set("A", value)
		return err == nil && ok && got == value && f.Doubt("A") == "" && bytes.Equal(once, f.Bytes())
	}
	for _, value := range combinations() {
		if !property(value) {
			t.Errorf("%q does not come back, or not twice alike", value)
		}
	}
	if accepted < 1000 {
		t.Errorf("only %d values were accepted", accepted)
	}
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
}

// FuzzEdit holds the whole contract of an edit against any text: nothing changes without one; after one the key reads as
// the value, to both readers, every other key as before, and the same edit again changes nothing; or it was refused, and
// nothing changed. `go test` runs it over the seeds.
func FuzzEdit(f *testing.F) {
	for _, path := range []string{"testdata/ruby-3.2.0.jsonl", "testdata/readers.jsonl"} {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, line := range bytes.Split(content, []byte("\n")) {
			f.Add(line, "it's")
			var v vector
			if json.Unmarshal(line, &v) == nil {
				f.Add([]byte(v.Text), "a b")
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, value string) {
		file := Parse(text)
		if !bytes.Equal(file.Bytes(), text) {
			t.Fatalf("parsing changed %q into %q", text, file.Bytes())
		}
		for _, edit := range []func(*File) error{
			func(f *File) error { return f.Set("A", value) },
			func(f *File) error { return f.Unset("A") },
		} {
			before := slices.Clone(file.Bytes())
			others := raws(file)
			if err := edit(file); err != nil {
				if !bytes.Equal(file.Bytes(), before) {
					t.Fatalf("a refused edit changed %q into %q", before, file.Bytes())
				}
				continue
			}
			after := file.Bytes()
			if got := raws(Parse(after)); !slices.Equal(got, others) {
				t.Fatalf("the edit of %q into %q changed others: %q, were %q", before, after, got, others)
			}
			if err := edit(file); err != nil || !bytes.Equal(file.Bytes(), after) {
				t.Fatalf("the same edit again changed %q into %q (%v)", after, file.Bytes(), err)
			}
		}
		if _, ok := file.Get("A"); ok && file.Unset("A") == nil {
			t.Fatalf("A is still there in %q", file.Bytes())
		}
	})
}

// raws are the entries of all keys but A, as they are written.
func raws(f *File) []string {
	var out []string
	for _, e := range append(slices.Clone(f.ruby), f.node...) {
		if e.key != "A" {
			out = append(out, e.key+" "+e.raw)
		}
	}
	return out
}
