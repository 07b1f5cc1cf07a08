package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"
)

// Detach returns a handler that calls next, which leads to [Handler.Events], for streams over HTTP/2 with little
// memory. It runs each HTTP/2 request on a second goroutine, which ends when next returns. Next returns once the
// stream is open. If it opens no stream, the client must take the answer within the time-out: a client of HTTP/2
// decides how much it takes of each answer (RFC 9113, section 5.2), net/http keeps a goroutine and 13 KiB for an
// answer that waits, and a connection may have 250 of them.
//
// net/http keeps the goroutine of an HTTP/2 request until the response ends, and the goroutine keeps the stack that
// its deepest call has needed: 8 KiB with Echo and its middleware. A goroutine that only waits keeps 2 KiB. What
// next needs, such as Echo's context and the request's headers, is garbage once next has returned.
func Detach(next http.Handler, timeout time.Duration) http.Handler {
	return &detaching{next, timeout}
}

type detaching struct {
	next    http.Handler
	timeout time.Duration
}

// ServeHTTP implements [http.Handler]. While it waits, the frames of its goroutine must fit into 2 KiB, of which Go
// reserves 928 bytes. Below net/http's frames over TLS about 200 bytes are left. So it waits for the end of a
// stream here rather than in a method of response, and has a pointer as its receiver: the method of a value would
// be called by a wrapper with a frame of its own.
func (d *detaching) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		d.next.ServeHTTP(w, r)
		return
	}
	x := &detached{returned: make(chan struct{})}
	go x.run(d, w, r)
	<-x.returned
	if x.panicked != nil {
		x.fail()
	}
	if out := x.out; out != nil {
		clean := <-out.ended
		out.finishHold(r.Context(), clean)
	}
}

// detached is an HTTP/2 request that runs on a second goroutine.
type detached struct {
	returned chan struct{} // closed when the handler has returned
	panicked any           // the value with which the handler has panicked; nil: it has not

	// The handler sets these when it has opened a stream.
	out    *response
	stream *clientStream
	begin  streamRequest
}

type detachedKey struct{}

// detachedFrom returns the request's detached; nil if the goroutine of net/http runs the request.
func detachedFrom(r *http.Request) *detached {
	d, _ := r.Context().Value(detachedKey{}).(*detached)
	return d
}

// run calls the handler. If the handler has opened a stream, run serves it until it has nothing to do.
func (d *detached) run(handler *detaching, w http.ResponseWriter, r *http.Request) {
	d.call(handler.next, w, r)
	// net/http keeps the request until the response ends, but reads these fields no more. Any client can make
	// them long.
	r.Header, r.URL, r.RequestURI = nil, nil, ""
	s, begin := d.stream, d.begin
	if s == nil {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(handler.timeout))
		close(d.returned)
		return
	}
	// The context of the handler leads to d, so the stream must not keep it.
	d.out.watchForEnd(r.Context(), s.sub)
	if d.panicked != nil {
		s.sub.end(errGone)
	}
	close(d.returned)
	s.start(begin)
}

// fail panics as the handler has. If the handler has opened a stream, fail waits for its end first, because a
// response may not be used after that.
func (d *detached) fail() {
	if d.out != nil {
		<-d.out.ended
		d.out.release()
	}
	panic(d.panicked)
}

// call calls the handler and keeps its panic for the goroutine of net/http, which knows what to do with it.
func (d *detached) call(next http.Handler, w http.ResponseWriter, r *http.Request) {
	defer func() {
		p := recover()
		if err, _ := p.(error); p == nil || errors.Is(err, http.ErrAbortHandler) {
			d.panicked = p
			return
		}
		d.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack()) // net/http logs only the stack of its own goroutine
	}()
	next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), detachedKey{}, d)))
}
