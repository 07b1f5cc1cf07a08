package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// response is the output over an [http.ResponseWriter], for connections that cannot be taken over. HTTP/2 is the
// main case: its connections carry other streams too. net/http ends the response when its handler returns, so
// the handler must call hold.
type response struct {
	writer  http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	metrics *metrics
	clean   bool        // the response has ended cleanly; set by close
	ended   chan bool   // reports to the handler that the stream has left, and whether the response has ended cleanly
	ignore  func() bool // makes the response ignore the end of the request's context
	free    func()      // releases the connection, which the stream holds

	until atomic.Int64 // when a write that is under way must have ended, in Unix nanoseconds; 0: no write is

	mu   sync.Mutex
	over bool // the handler returns, so the response may not be used any more
}

func newResponse(w http.ResponseWriter, timeout time.Duration, m *metrics) *response {
	r := &response{writer: w, control: http.NewResponseController(w), timeout: timeout, metrics: m, ended: make(chan bool, 1), free: func() {}}
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
		if err == nil {
			err = r.control.Flush()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", r.endCause(), err)
		}
	}
	return r.deadline(time.Time{}) // over HTTP/2 a deadline ends even a stream that writes nothing
}

// endCause returns why net/http has ended the response. net/http itself does not say: the end of a deadline resets
// the stream of HTTP/2, as the client may.
func (r *response) endCause() error {
	if until := r.until.Load(); until != 0 && time.Now().UnixNano() >= until {
		return os.ErrDeadlineExceeded
	}
	return errGone
}

func (r *response) deadline(t time.Time) error {
	if t.IsZero() {
		r.until.Store(0)
	} else {
		r.until.Store(t.UnixNano())
	}
	if err := r.control.SetWriteDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (r *response) close(clean bool) (whole bool) {
	r.free()
	r.clean = clean
	return clean
}

// leave makes the handler end the response.
func (r *response) leave() { r.ended <- r.clean }

// watchForEnd makes the stream end with the request's context, which ends when the client is gone or has not taken
// a write in time.
func (r *response) watchForEnd(ctx context.Context, sub *subscription) {
	r.ignore = context.AfterFunc(ctx, func() { sub.end(r.endCause()) })
}

// hold waits until the stream has left. The handler calls it last.
func (r *response) hold(ctx context.Context) {
	clean := <-r.ended
	r.finishHold(ctx, clean)
}

// finishHold is called after the stream has left. If the response was cut, finishHold panics as net/http wants
// it, so that the client notices.
func (r *response) finishHold(ctx context.Context, clean bool) {
	r.release()
	if !clean && ctx.Err() == nil {
		panic(http.ErrAbortHandler)
	}
}

// release makes the response refuse further use.
func (r *response) release() {
	r.ignore()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

func (r *response) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		_ = r.deadline(time.Unix(1, 0))
	}
}
