package server

import (
	"net/netip"
	"strings"
)

// The header Forwarded (RFC 7239, section 4): elements with commas between them, each a list of pairs such as
// for="[2001:db8::1]:5100";proto=https. A value may be a quoted string, in which commas and semicolons have no
// meaning and a backslash escapes the next character.
//
// The functions read from the right. A client can begin a line, and proxies append to it: a reader from the
// left would take a quote that the client has opened and never closed for a string with the proxy's element in it.

// cutLastForwarded cuts the last element off the line. more says that there was a comma before it.
func cutLastForwarded(line string) (element, rest string, more bool) {
	quoted := false
	for i := len(line) - 1; i >= 0; i-- {
		switch {
		case line[i] == '"' && !isEscaped(line, i):
			quoted = !quoted
		case line[i] == ',' && !quoted:
			return line[i+1:], line[:i], true
		}
	}
	return line, "", false
}

// isEscaped says whether the number of backslashes before the character is odd.
func isEscaped(line string, at int) bool {
	before := line[:at]
	return (len(before)-len(strings.TrimRight(before, `\`)))%2 == 1
}

// parseForwarded returns the address in the parameter for. An element that has the parameter twice or not at all, or
// that is malformed, has no address.
func parseForwarded(element string) (netip.Addr, bool) {
	node, found := "", false
	for rest, more := element, true; more; {
		var name, value string
		var ok bool
		if name, value, rest, more, ok = cutPair(rest); !ok {
			return netip.Addr{}, false
		}
		if strings.EqualFold(name, "for") {
			if found {
				return netip.Addr{}, false
			}
			node, found = value, true
		}
	}
	if !found {
		return netip.Addr{}, false
	}
	return parseNode(node)
}

// cutPair cuts the first pair off an element. more says that a semicolon follows it. The pair may be
// empty. Values without quotes may have characters that the grammar wants in quotes, such as the colon before a
// port: some proxies write them so.
func cutPair(text string) (name, value, rest string, more, ok bool) {
	text = strings.TrimLeft(text, " \t")
	end := strings.IndexAny(text, "=;")
	if end < 0 || text[end] == ';' {
		if end < 0 {
			end = len(text)
		} else {
			rest, more = text[end+1:], true
		}
		return "", "", rest, more, strings.Trim(text[:end], " \t") == ""
	}
	name, text = text[:end], text[end+1:]
	if strings.HasPrefix(text, `"`) {
		if value, text, ok = cutQuoted(text[1:]); !ok {
			return "", "", "", false, false
		}
		between, after, more := strings.Cut(text, ";")
		return name, value, after, more, strings.Trim(between, " \t") == ""
	}
	value, rest, more = strings.Cut(text, ";")
	value = strings.TrimRight(value, " \t")
	return name, value, rest, more, !strings.ContainsAny(value, "\" \t")
}

// cutQuoted returns the content of a quoted string (RFC 9110, section 5.6.4) and the text after its closing
// quote. text begins after the opening quote.
func cutQuoted(text string) (content, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			return b.String(), text[i+1:], true
		case '\\':
			if i++; i == len(text) {
				return "", "", false
			}
		}
		b.WriteByte(text[i])
	}
	return "", "", false
}
