package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// deflateParameter is the query parameter that asks for compression.
const deflateParameter = "deflate"

// serveWebSocket serves a stream over WebSocket (RFC 6455). A binary message is a piece of the event stream that Herald
// would write over HTTP, so a client reads it with the same parser, and continues from the same ids. The id is in the
// query, because pages cannot set headers of a WebSocket.
func serveWebSocket(herald http.Handler, w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	options := &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled}
	if query.Has(deflateParameter) {
		options.CompressionMode = websocket.CompressionContextTakeover
		query.Del(deflateParameter)
	}
	conn, err := websocket.Accept(w, r, options)
	if err != nil {
		return // Accept has answered
	}
	// The context ends when the client is gone. It must not end with this handler.
	ctx := conn.CloseRead(context.WithoutCancel(r.Context()))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, eventsPath+"?"+query.Encode(), nil) //nolint:gosec // for the handler of this process
	if err != nil {
		_ = conn.CloseNow()
		return
	}
	request.RequestURI, request.Host, request.RemoteAddr, request.TLS = request.URL.RequestURI(), r.Host, r.RemoteAddr, r.TLS
	request.Header.Set("Accept", "text/event-stream")
	for _, name := range []string{"Origin", "Cookie"} {
		if value := r.Header.Get(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	// The handler returns here, so net/http frees its goroutine, stack and buffers. A new goroutine serves the stream. It
	// ends with its connection.
	go (&socketWriter{ctx: ctx, conn: conn, header: make(http.Header)}).serve(herald, request)
}

// socketWriter is a response that goes out as messages of a WebSocket. It cannot be taken over (http.Hijacker).
type socketWriter struct {
	ctx     context.Context //nolint:containedctx // of the request; ends when the client is gone
	conn    *websocket.Conn
	header  http.Header
	timer   *time.Timer     // closes the connection when a write takes too long; nil: no write has had a deadline
	refusal strings.Builder // the body of a response that is not a stream
	refused bool
}

// serve has Herald serve the request, and closes the connection.
func (w *socketWriter) serve(herald http.Handler, request *http.Request) {
	defer func() {
		// Herald cuts a response by this panic.
		if r := recover(); r != nil && !errors.Is(asError(r), http.ErrAbortHandler) {
			panic(r)
		}
		_ = w.conn.CloseNow() // has no effect after Close
	}()
	herald.ServeHTTP(w, request)
	if w.refused {
		const most = 123 // bytes of a close frame's reason (RFC 6455, section 5.5)
		reason := w.refusal.String()
		_ = w.conn.Close(websocket.StatusPolicyViolation, strings.ToValidUTF8(reason[:min(len(reason), most)], ""))
		return
	}
	_ = w.conn.Close(websocket.StatusNormalClosure, "")
}

func asError(value any) error {
	err, _ := value.(error)
	return err
}

func (w *socketWriter) Header() http.Header { return w.header }

func (w *socketWriter) WriteHeader(status int) { w.refused = status != http.StatusOK }

func (w *socketWriter) Write(p []byte) (int, error) {
	if w.refused {
		return w.refusal.Write(p)
	}
	if err := w.conn.Write(w.ctx, websocket.MessageBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// FlushError does nothing: Write has written the message.
func (w *socketWriter) FlushError() error { return nil }

func (w *socketWriter) SetReadDeadline(time.Time) error { return nil } // nothing is read but control frames

func (w *socketWriter) SetWriteDeadline(t time.Time) error { //nolint:unparam // http.ResponseController wants the error
	switch {
	case t.IsZero() && w.timer != nil:
		w.timer.Stop()
	case t.IsZero():
	case w.timer == nil:
		w.timer = time.AfterFunc(time.Until(t), func() { _ = w.conn.CloseNow() })
	default:
		w.timer.Reset(time.Until(t))
	}
	return nil
}
