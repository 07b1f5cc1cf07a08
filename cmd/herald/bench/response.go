package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"herald/auth"
	"herald/cmd/herald/tail"
	"herald/cmd/herald/visible"
)

// maxHead bounds a response's head, in bytes.
const maxHead = 64 << 10

var errFraming = errors.New("the response's chunks are malformed")

// refusalError reports an answer that is not an event stream. Another try would get the same answer.
type refusalError struct{ text string }

func (e *refusalError) Error() string { return e.text }

// response parses an HTTP/1.1 response (RFC 9112) that the caller passes in pieces. The zero value
// begins a response.
type response struct {
	begun bool   // the head is complete
	head  []byte // the part of an incomplete head that has arrived

	chunked bool
	left    int64 // bytes of the chunk, or of the body, that have not arrived
	state   chunkState
	digits  int
	ended   bool // the body is complete
}

// chunkState is the part of a chunked body that comes next (RFC 9112, section 7.1).
type chunkState uint8

const (
	inSize chunkState = iota
	inExtension
	inData
	afterData
	inTrailer // at the start of a line
	inTrailerLine
)

// readHead parses the response's head. It returns the bytes after the head, or nothing while the head is
// incomplete.
func (r *response) readHead(p []byte) ([]byte, error) {
	if r.head != nil {
		r.head = append(r.head, p...)
		p = r.head
	}
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		if len(p) > maxHead {
			return nil, &refusalError{"the head of the server's answer is larger than 64 KiB"}
		}
		if r.head == nil {
			r.head = bytes.Clone(p)
		}
		return nil, nil
	}
	r.head, r.begun = nil, true
	head, body := p[:end+2], p[end+4:]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return nil, newRefusal(p)
	}
	r.left = math.MaxInt64 // without a length, the body ends with the connection
	kind := ""
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch strings.ToLower(string(name)) {
		case "content-type":
			kind, _, _ = strings.Cut(string(value), ";")
		case "transfer-encoding":
			r.chunked = bytes.EqualFold(value, []byte("chunked"))
		case "content-length":
			if n, err := strconv.ParseUint(string(value), 10, 63); err == nil {
				r.left = int64(n)
			}
		}
	}
	if r.chunked {
		r.left = 0 // the first chunk's size follows
	}
	if kind != "text/event-stream" {
		return nil, &refusalError{fmt.Sprintf("the server answers with %q, not with an event stream: is the path of --url right?", kind)}
	}
	return body, nil
}

// newRefusal returns a refusalError with the answer's status and message. p may hold only a part of the
// answer's body.
func newRefusal(p []byte) error {
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(p)), nil)
	if err != nil {
		return &refusalError{"the server does not speak HTTP/1.1: is --url right?"}
	}
	defer res.Body.Close()
	message, reason := tail.RefusalText(res.Body)
	text := "the server says " + visible.Text(res.Status) + message
	switch res.StatusCode {
	case http.StatusBadRequest:
		if strings.Contains(message, "the token says who the user is") { // the words of Herald
			text += ": give --jwt-secret-file or --token-file, and no user in --url"
		}
	case http.StatusUnauthorized:
		if reason == "" || reason == auth.ReasonNoToken { // otherwise the message says what to do
			text += ": give --jwt-secret-file or a valid --token-file"
		}
	case http.StatusNotFound:
		if !tail.SaysWhatExists(message) {
			text += ": is the path of --url right?"
		}
	}
	return &refusalError{text}
}

// nextData returns the next bytes of the body in p, and the rest of p. If p has no more bytes of the
// body, both are empty.
func (r *response) nextData(p []byte) (data, rest []byte, err error) {
	if !r.chunked {
		n := min(int64(len(p)), r.left)
		r.left -= n
		r.ended = r.left == 0
		return p[:n], nil, nil
	}
	for len(p) > 0 && !r.ended {
		if r.state == inData {
			n := min(int64(len(p)), r.left)
			if r.left -= n; r.left == 0 {
				r.state = afterData
			}
			return p[:n], p[n:], nil
		}
		if err := r.parseFraming(p[0]); err != nil {
			return nil, nil, err
		}
		p = p[1:]
	}
	return nil, nil, nil
}

// parseFraming parses a byte between the data of two chunks. It accepts a line end without CR, as RFC
// 9112, section 2.2, allows.
func (r *response) parseFraming(c byte) error {
	switch r.state {
	case inSize:
		return r.parseSize(c)
	case inExtension:
		if c == '\n' {
			r.endSize()
		}
	case afterData:
		switch c {
		case '\r':
		case '\n':
			r.state, r.left, r.digits = inSize, 0, 0
		default:
			return errFraming
		}
	case inTrailer:
		switch c {
		case '\r':
		case '\n':
			r.ended = true
		default:
			r.state = inTrailerLine
		}
	case inTrailerLine:
		if c == '\n' {
			r.state = inTrailer
		}
	default:
		return errFraming
	}
	return nil
}

// parseSize parses a byte of a chunk's size.
func (r *response) parseSize(c byte) error {
	var digit byte
	switch {
	case '0' <= c && c <= '9':
		digit = c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		digit = c | 0x20 - 'a' + 10
	case r.digits == 0:
		return errFraming
	case c == '\n':
		r.endSize()
		return nil
	case c == ';' || c == ' ' || c == '\t' || c == '\r':
		r.state = inExtension
		return nil
	default:
		return errFraming
	}
	if r.digits++; r.digits > 15 {
		return errFraming
	}
	r.left = r.left<<4 | int64(digit)
	return nil
}

// endSize is called at the end of the line with a chunk's size. A size of 0 marks the last chunk.
func (r *response) endSize() {
	if r.state = inData; r.left == 0 {
		r.state = inTrailer
	}
}
