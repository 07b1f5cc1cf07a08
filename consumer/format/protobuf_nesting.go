package format

import (
	"fmt"
	"strings"
)

// maxNesting bounds how deep the brackets of a schema's text may be nested. The parser takes 10 KiB for each level.
const maxNesting = 200

var errNesting = fmt.Errorf("the schema is nested deeper than %d levels", maxNesting)

// checkNesting returns an error if the brackets of a text of Protobuf's language are nested too deep. Brackets in strings
// and comments do not count.
func checkNesting(text string) error {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[', '(', '<':
			if depth++; depth > maxNesting {
				return errNesting
			}
		case '}', ']', ')', '>':
			depth--
		case '"', '\'':
			i += stringLength(text[i:]) - 1
		case '/':
			i += commentLength(text[i:]) - 1
		}
	}
	return nil
}

// stringLength returns the length of a string, which ends with the quote that it begins with, or with its line.
func stringLength(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case text[0], '\n':
			return i + 1
		case '\\':
			i++
		}
	}
	return len(text)
}

// commentLength returns the length of a comment; 1 if the slash does not begin a comment.
func commentLength(text string) int {
	end := ""
	switch {
	case strings.HasPrefix(text, "//"):
		end = "\n"
	case strings.HasPrefix(text, "/*"):
		end = "*/"
	default:
		return 1
	}
	if i := strings.Index(text[2:], end); i >= 0 {
		return 2 + i + len(end)
	}
	return len(text)
}
