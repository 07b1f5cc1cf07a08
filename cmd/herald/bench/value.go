package bench

import (
	"bytes"
	"strconv"
)

// A record's value is text: whose it is (run), from which sequence (source), its number there and
// when it was sent (Unix time in ns), then padding up to the size that is asked for:
//
//	herald-bench RUN SOURCE NUMBER TIME ....
const valueMagic = "herald-bench "

// MinSize is the least size of a record's value, in bytes: what is measured stands in it.
const MinSize = 96

// value is what a record's value says.
type value struct {
	run    uint64
	source int
	number uint64
	sent   int64
}

// append appends the value's text, of size bytes.
func (v value) append(b []byte, size int) []byte {
	start := len(b)
	b = append(b, valueMagic...)
	b = strconv.AppendUint(b, v.run, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(v.source), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, v.number, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, v.sent, 10)
	b = append(b, ' ')
	for len(b)-start < size {
		b = append(b, padding[:min(len(padding), size-len(b)+start)]...)
	}
	return b
}

var padding = bytes.Repeat([]byte("."), 256)

// parseValue reads a value's text; false says that it is none.
func parseValue(b []byte) (value, bool) {
	rest, ok := bytes.CutPrefix(b, []byte(valueMagic))
	if !ok {
		return value{}, false
	}
	var numbers [4]uint64
	for i := range numbers {
		end := 0
		for end < len(rest) && '0' <= rest[end] && rest[end] <= '9' {
			numbers[i] = numbers[i]*10 + uint64(rest[end]-'0')
			end++
		}
		if end == 0 || end > 19 || end == len(rest) || rest[end] != ' ' {
			return value{}, false
		}
		rest = rest[end+1:]
	}
	return value{numbers[0], int(numbers[1]), numbers[2], int64(numbers[3])}, true //nolint:gosec // 19 digits fit
}
