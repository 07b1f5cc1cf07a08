// Package visible makes text from the network, or of a mistaken command line, safe to show in a terminal or in a log.
package visible

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
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

// Content is [Text] for the content of a record. It keeps the characters that belong to a text, such as tabs and the
// joiners of emoji. It replaces characters that steer a terminal by the escapes of JSON.
func Content(text string) string {
	if !strings.ContainsFunc(text, steers) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if steers(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// steers reports whether a terminal may obey the character: control characters except the tab, and
// characters that change the direction of writing.
func steers(r rune) bool {
	return r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r))
}

// MaxExcerpt is how many bytes of a text [Excerpt] shows.
const MaxExcerpt = 128

// Excerpt returns the beginning of a text that any client can send, for a log: in ASCII, with the escapes of Go.
func Excerpt(text string) string {
	end := min(len(text), MaxExcerpt)
	for range utf8.UTFMax - 1 { // not in the middle of a character
		if end < len(text) && !utf8.RuneStart(text[end]) {
			end--
		}
	}
	quoted := strconv.QuoteToASCII(text[:end])
	return quoted[1 : len(quoted)-1]
}
