package stream

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
)

// output writes a stream's bytes to its client. One goroutine at a time uses it, except for cut.
type output interface {
	// send writes as many of the buffer's bytes as the client takes without waiting. It returns the rest, in the
	// form that finish expects. The buffer begins with headroom.
	send(b []byte) (rest []byte, err error)

	// sendLarge writes a large event in the same way. Other streams may write the same event at the same time.
	sendLarge(l *large) (rest []byte, err error)

	// finish writes the rest and waits until the client has taken all of it. The error is
	// os.ErrDeadlineExceeded if the client takes nothing for the write time-out.
	finish(rest []byte) error

	// close ends the response. The client can distinguish a clean end from a cut.
	close(clean bool)

	// cut closes the connection. It may be called while another goroutine writes.
	cut()
}

// headroom is the number of bytes at the start of a buffer that the output uses for the head of an HTTP chunk.
const headroom = 10

// writePiece is the number of bytes that a client must take within the write time-out to count as alive.
const writePiece = 16 << 10

// keepBuffer is the largest size of a buffer that returns to the pool, in bytes.
const keepBuffer = 64 << 10

// newBufferSize is the size of a new buffer, in bytes.
const newBufferSize = 4 << 10

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, headroom, newBufferSize)} }}

// buffer holds bytes on their way to a client. A stream has a buffer only while it writes.
type buffer struct{ b []byte }

func newBuffer() *buffer { return buffers.Get().(*buffer) } //nolint:forcetypeassert // nothing else is in there

func (b *buffer) free() {
	if cap(b.b) <= keepBuffer {
		b.b = b.b[:headroom]
		buffers.Put(b)
	}
}

// response is the output over an [http.ResponseWriter], for connections that cannot be taken over. HTTP/2 is the
// main case: its connections carry other streams too.
type response struct {
	writer  http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	metrics *metrics
	ended   chan bool // reports to the handler that the response has ended, and whether cleanly

	mu   sync.Mutex
	over bool // the handler returns, so the response may not be used any more
}

func newResponse(w http.ResponseWriter, timeout time.Duration, m *metrics) *response {
	r := &response{writer: w, control: http.NewResponseController(w), timeout: timeout, metrics: m, ended: make(chan bool, 1)}
	_ = r.deadline(time.Time{}) // the server's deadline is meant for other responses
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
	return r.deadline(time.Time{}) // over HTTP/2 a deadline ends even a stream that writes nothing
}

func (r *response) deadline(t time.Time) error {
	if err := r.control.SetWriteDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// close reports the end to the handler, which ends the response.
func (r *response) close(clean bool) { r.ended <- clean }

// wait waits until the response has ended, and reports whether it ended cleanly. The handler calls it.
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
