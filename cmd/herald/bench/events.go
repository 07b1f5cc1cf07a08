package bench

import (
	"bytes"
	"errors"
	"strconv"
	"time"
)

const (
	// maxBlock bounds a block of a stream, in bytes; Kafka's records have 1 MiB by default.
	maxBlock = 32 << 20
	// keepRest is how much of a buffer a stream keeps between blocks: it has one for each stream.
	keepRest = 1 << 10
	// maxRetry bounds the reconnection time a server can ask for.
	maxRetry = time.Hour
	// bom is U+FEFF in UTF-8; one at the start of a stream is not a part of it.
	bom = "\xef\xbb\xbf"
)

var errBlockTooLarge = errors.New("an event is larger than 32 MiB")

// block is what stands between two blank lines of an event stream. Its slices are good until the
// next call of [blockReader.push] or [blockReader.next].
type block struct {
	id      []byte
	hasID   bool // the last event id is id from here on
	kind    []byte
	data    []byte // lines end in LF
	hasData bool   // without it nothing is dispatched
	retry   time.Duration
}

// blockReader reads a text/event-stream (WHATWG HTML, section 9.2.6) that is pushed to it in pieces.
// A block that arrives whole is not copied. The zero value begins a stream.
type blockReader struct {
	in     []byte // what is pushed and not read; a part of rest, or the caller's
	rest   []byte // the start of a block whose end has not come
	begun  bool   // the bytes where a byte order mark may be have been read
	skipLF bool   // a CR ended the last block: an LF may belong to it
}

// push gives the reader more bytes, which it may look at until next returns false.
func (r *blockReader) push(p []byte) error {
	if len(r.rest) == 0 {
		r.in = p
		return nil
	}
	if len(r.rest)+len(p) > maxBlock {
		return errBlockTooLarge
	}
	r.rest = append(r.rest, p...)
	r.in = r.rest
	return nil
}

// next reads the next whole block into b. It returns false if there is none.
func (r *blockReader) next(b *block) bool {
	if !r.begun {
		if len(r.in) < len(bom) && bytes.HasPrefix([]byte(bom), r.in) {
			return r.keep()
		}
		r.in = bytes.TrimPrefix(r.in, []byte(bom))
		r.begun = true
	}
	if r.skipLF && len(r.in) > 0 {
		r.in = bytes.TrimPrefix(r.in, []byte("\n"))
		r.skipLF = false
	}
	*b = block{}
	for rest, first := r.in, true; ; {
		line, after, ok := cutLine(rest)
		if !ok {
			return r.keep()
		}
		if len(line) == 0 {
			r.skipLF = len(after) == 0 && rest[0] == '\r'
			r.in = after
			return true
		}
		rest = after
		if first = first && line[0] == ':'; first && len(rest) > 0 {
			r.in = rest // heartbeats have no blank line behind them, and are not to be collected
		}
		b.field(line)
	}
}

// keep saves what has not been read. It returns false.
func (r *blockReader) keep() bool {
	if len(r.in) == 0 && cap(r.rest) > keepRest {
		r.rest = nil
	} else {
		r.rest = append(r.rest[:0], r.in...)
	}
	r.in = nil
	return false
}

// cutLine cuts a line off that ends with CR LF, LF or CR.
func cutLine(p []byte) (line, rest []byte, ok bool) {
	end := bytes.IndexByte(p, '\n')
	head := p
	if end >= 0 {
		head = p[:end]
	}
	switch cr := bytes.IndexByte(head, '\r'); {
	case cr < 0 && end < 0:
		return nil, p, false
	case cr < 0:
		return head, p[end+1:], true
	case cr+1 < len(p) && p[cr+1] == '\n':
		return p[:cr], p[cr+2:], true
	default:
		return p[:cr], p[cr+1:], true
	}
}

func (b *block) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) { // a comment's is empty
	case "data":
		if b.hasData {
			value = bytes.Join([][]byte{b.data, value}, []byte("\n"))
		}
		b.data, b.hasData = value, true
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			b.id, b.hasID = value, true
		}
	case "event":
		b.kind = value
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 63); err == nil {
			b.retry = time.Duration(min(ms, uint64(maxRetry.Milliseconds()))) * time.Millisecond //nolint:gosec // at most an hour
		}
	}
}
