// Package visible makes text from the network, or of a mistaken command line, safe to show in a terminal.
package visible

import (
	"strconv"
	"strings"
)

// Text replaces the characters that nobody sees, or that steer a terminal, by the escapes of Go: control characters,
// white space other than the space, format characters such as the zero width space and the marks of direction. It is
// what %q prints, without the quotes: a text that has quotes or backslashes stays as it is.
func Text(text string) string {
	if !strings.ContainsFunc(text, isHidden) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !isHidden(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// Lines is [Text] for a text that may have several lines: it keeps line breaks.
func Lines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = Text(line)
	}
	return strings.Join(lines, "\n")
}

func isHidden(r rune) bool { return !strconv.IsPrint(r) }
