package dotenv

import (
	"errors"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/converge-agent/converge/diag"
)

// bare is what every reader takes as it stands without quotes; keys of AWS and Backblaze B2 are made of it.
var bare = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]*$`)

// Quote returns value as it is written behind the equals sign so that Ruby dotenv 2.7 and 3.2, Node dotenv 16 and 17,
// systemd 252, compose-go 2.16 and a shell read the same (measured with each). Most values stand bare or in single quotes;
// one with a single quote stands in double quotes where nothing in it has a meaning there. The error says what the value
// holds that the readers disagree about, and never the value itself.
func Quote(value string) (string, error) {
	if bare.MatchString(value) {
		return value, nil
	}
	if !utf8.ValidString(value) {
		return "", refuse("bytes that are not UTF-8")
	}
	for _, r := range value {
		switch {
		case r == '\n' || r == '\r':
			return "", refuse("a line break")
		case !unicode.IsPrint(r):
			return "", refuse("a tab or another character that does not print")
		}
	}
	switch {
	case !strings.Contains(value, `'`) && !strings.HasSuffix(value, `\`):
		return "'" + value + "'", nil
	case !strings.Contains(value, `'`):
		return "", refuse("a backslash at its end")
	case !strings.ContainsAny(value, "\"\\$`"):
		return `"` + value + `"`, nil
	}
	return "", refuse("a single quote together with a double quote, backslash, dollar or backtick")
}

func refuse(what string) error {
	return &diag.Error{
		Err: errors.New("the value holds " + what + ", which the readers of .env files do not read alike"),
		Fix: "Use a value without it, such as a newly made key or password.",
	}
}
