package stream

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
)

// output is where a stream's bytes go: to one client. It is used by one goroutine at a time.
type output interface {
	// send writes as much of the buffer's bytes as the client takes at once, and returns the rest as
	// finish wants it. The buffer begins with headroom.
	send(b []byte) (rest []byte, err error)

	// sendLarge is send of an event that others may be writing too.
	sendLarge(l *large) (rest []byte, err error)

	// finish writes the rest and waits until the client has taken all of it. It fails with
	// os.ErrDeadlineExceeded if the client takes nothing for the write time-out.
	finish(rest []byte) error

	// close ends the response. The client can tell a clean end from a cut.
	close(clean bool)

	// cut closes the connection while others may be writing to it.
	cut()
}

// headroom is how many bytes a buffer begins with that are the output's, for the head of a chunk.
const headroom = 10

// writePiece is how many bytes a client must take within the write time-out to count as alive.
const writePiece = 16 << 10

// keepBuffer is how large a buffer may be that is used again, in bytes.
const keepBuffer = 64 << 10

// newBufferSize is what a buffer begins with, in bytes.
const newBufferSize = 4 << 10

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, headroom, newBufferSize)} }}

// buffer is what is on its way to a client. Streams have one while they write only.
type buffer struct{ b []byte }

func newBuffer() *buffer { return buffers.Get().(*buffer) } //nolint:forcetypeassert // nothing else is in there

func (b *buffer) free() {
	if cap(b.b) <= keepBuffer {
		b.b = b.b[:headroom]
		buffers.Put(b)
	}
}

// response is the output over an [http.ResponseWriter]: HTTP/2, where a connection has other streams,
// and whatever cannot be taken over.
type response struct {
	writer  http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	metrics *metrics
	ended   chan bool // whether the response has ended cleanly, for the handler

	mu   sync.Mutex
	over bool // the handler returns: nothing of the response may be used
}

func newResponse(w http.ResponseWriter, timeout time.Duration, m *metrics) *response {
	r := &response{writer: w, control: http.NewResponseController(w), timeout: timeout, metrics: m, ended: make(chan bool, 1)}
	_ = r.deadline(time.Time{}) // the server's is for other answers
	return r
}

func (r *response) send(b []byte) ([]byte, error)      { return b[headroom:], nil }
func (r *response) sendLarge(l *large) ([]byte, error) { return l.text, nil }

func (r *response) finish(b []byte) error {
	for piece := range slices.Chunk(b, writePiece) {
		if err := r.deadline(time.Now().Add(r.timeout)); err != nil {
			return err
		}
		n, err := r.writer.Write(piece)
		r.metrics.bytes.Add(float64(n))
		if err != nil {
			return err
		}
		if err := r.control.Flush(); err != nil {
			return err
		}
	}
	return r.deadline(time.Time{}) // over HTTP/2 it would end a stream that has nothing to write, too
}

func (r *response) deadline(t time.Time) error {
	if err := r.control.SetWriteDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// close leaves the end to the handler.
func (r *response) close(clean bool) { r.ended <- clean }

// wait is for the handler: it waits until the response has ended, and says whether cleanly.
func (r *response) wait() (clean bool) {
	clean = <-r.ended
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	return clean
}

func (r *response) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		_ = r.deadline(time.Unix(1, 0))
	}
}
