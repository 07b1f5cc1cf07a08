package consumer

import (
	"encoding/binary"
	"unicode"
	"unicode/utf8"
)

// maxUser is the length of the longest name of a user, in bytes. No token and no request can name a user by a longer
// one.
const maxUser = 256

// isPlainName reports whether the name is valid and of printable ASCII. Almost all names are, so live reading calls
// nameFault for few records. It calls isPlainName for each record of a shared topic, so isPlainName looks at eight
// bytes at a time (BenchmarkMayCount).
func isPlainName(name []byte) bool {
	if len(name) == 0 || len(name) > maxUser {
		return false
	}
	if len(name) < 8 {
		for _, c := range name {
			if c < ' ' || c > '~' {
				return false
			}
		}
		return true
	}
	last := name[len(name)-8:]
	for ; len(name) > 8; name = name[8:] {
		if !isPlainWord(binary.LittleEndian.Uint64(name)) {
			return false
		}
	}
	return isPlainWord(binary.LittleEndian.Uint64(last))
}

// isPlainWord reports whether eight bytes are of printable ASCII. Of a byte above '~', the byte itself or the byte plus
// 1 has its highest bit set. Of a byte below ' ', the byte minus ' ' has. Only such a byte causes a carry or a borrow.
func isPlainWord(w uint64) bool {
	const ones = 0x0101010101010101
	return (w|(w+ones)|(w-' '*ones))&(0x80*ones) == 0
}

// nameFault returns the reason why no user can have the name; "" if a user can. The rule is the same as in
// auth.CheckUser, which this package does not import. A test of cmd/herald/server compares the two.
func nameFault(name []byte) string {
	switch {
	case len(name) == 0:
		return ownerlessEmpty
	case len(name) > maxUser:
		return ownerlessTooLong
	case !utf8.Valid(name):
		return ownerlessNotUTF8
	}
	for _, c := range string(name) {
		if unicode.IsControl(c) {
			return ownerlessControl
		}
	}
	return ""
}

// ownNames knows which names users can have if routes give them topics of their own.
type ownNames struct {
	longest int             // in bytes
	taken   map[string]bool // names whose topics other routes read
}

// newOwnNames returns nil if no route gives users topics of their own.
func newOwnNames(rs routes) *ownNames {
	var names *ownNames
	for _, route := range rs {
		if route.Kind != PerUser {
			continue
		}
		if names == nil {
			names = &ownNames{longest: maxTopicName, taken: make(map[string]bool)}
		}
		prefix, suffix := route.fixedParts()
		names.longest = min(names.longest, route.Encoding.longest(maxTopicName-len(prefix)-len(suffix)))
		for _, other := range rs.static() {
			if user, ok := route.UserOf(other.Topic); ok {
				names.taken[user] = true
			}
		}
	}
	return names
}

// topicBytes is isTopicByte as a table, which takes a third of its time.
var topicBytes = func() (is [256]bool) {
	for c := range is {
		is[c] = isTopicByte(byte(c))
	}
	return is
}()

// isPlain reports whether the name is valid and begins with a letter or a digit. Almost all names do. The others may
// make a name that Kafka does not allow, such as "..", or one of Kafka's own topics.
func (n *ownNames) isPlain(name []byte) bool {
	if len(name) == 0 || len(name) > n.longest || name[0] < '0' || name[0] == '_' {
		return false
	}
	for _, c := range name {
		if !topicBytes[c] {
			return false
		}
	}
	return len(n.taken) == 0 || !n.taken[string(name)]
}
