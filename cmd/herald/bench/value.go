package bench

import (
	"bytes"
	"strconv"
)

// A record's value is text. It holds the number of the run, the source (the sequence that the record
// belongs to), the record's number in that sequence, the time of sending (Unix time in ns), and padding
// up to the configured size:
//
//	herald-bench RUN SOURCE NUMBER TIME ....
const valueMagic = "herald-bench "

// MinSize is the least size of a record's value in bytes. It has room for the text of every value.
const MinSize = 96

// value is the content of a record's value.
type value struct {
	run    uint64
	source int
	number uint64
	sent   int64
}

// append appends the value's text, padded to size bytes.
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

// parseValue parses a value's text. It returns false for the value of another program's record.
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
