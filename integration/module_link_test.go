package integration

import (
	"bufio"
	"context"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// link is a network path from pages to herald. It relays requests for events over HTTP/1.1, one a connection, and
// cuts or silences them as a test wants.
type link struct {
	herald string // host:port

	mu      sync.Mutex
	limit   func() int64 // bytes of the body after which a connection is cut; nil: never
	deaf    bool         // new connections get no byte
	wires   map[*wire]bool
	streams int // connections for streams so far; requests with wait are not streams
	open    int // streams now
	cuts    int // by limit
}

// wire is a connection of a link.
type wire struct {
	page, server net.Conn
	silent       atomic.Bool // the page gets no byte anymore, as on a path that has died
}

func (w *wire) cut(reset bool) {
	if tcp, ok := w.page.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = w.page.Close()
	_ = w.server.Close()
}

// relay relays one request and its response. While herald is down it answers 502, as a proxy does.
func (l *link) relay(w http.ResponseWriter, r *http.Request) {
	server, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", l.herald)
	if err != nil {
		http.Error(w, "herald is down", http.StatusBadGateway)
		return
	}
	defer server.Close() //nolint:errcheck // cut
	r.Close = true       // after the response: the page must not send another request on this connection
	if err := r.Write(server); err != nil {
		http.Error(w, "herald has gone", http.StatusBadGateway)
		return
	}
	page, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	wire := &wire{page: page, server: server}
	limit := l.add(wire, !r.URL.Query().Has("wait"))
	defer l.remove(wire, !r.URL.Query().Has("wait"))
	go func() { // ends with the connection
		_, _ = io.Copy(io.Discard, page)
		wire.cut(false) // the page has left
	}()
	l.copy(wire, limit)
}

// copy relays the response and cuts it after limit bytes of its body. It never cuts in the header: a page cannot
// tell that from a server that refuses the connection.
func (l *link) copy(w *wire, limit int64) {
	from := bufio.NewReader(w.server)
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = from.ReadString('\n'); err != nil {
			w.cut(false)
			return
		}
		w.write([]byte(line))
	}
	buffer := make([]byte, 16<<10)
	for limit > 0 {
		n, err := from.Read(buffer[:min(limit, int64(len(buffer)))])
		w.write(buffer[:n])
		if err != nil {
			w.cut(false) // the response has ended
			return
		}
		limit -= int64(n)
	}
	l.mu.Lock()
	l.cuts++
	l.mu.Unlock()
	w.cut(rand.IntN(2) == 0)
}

func (w *wire) write(p []byte) {
	if !w.silent.Load() {
		_, _ = w.page.Write(p) // an error shows at the next read, because the page's end closes both connections
	}
}

func (l *link) add(w *wire, stream bool) (limit int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.silent.Store(l.deaf)
	l.wires[w] = true
	if stream {
		l.streams++
		l.open++
	}
	if l.limit == nil {
		return math.MaxInt64
	}
	return l.limit()
}

func (l *link) remove(w *wire, stream bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.wires, w)
	if stream {
		l.open--
	}
}

// cut cuts all connections.
func (l *link) cut(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.wires {
		w.cut(reset)
	}
}

// cutAfter cuts all connections, and each later connection after limit() bytes. With nil, later connections are not
// cut.
func (l *link) cutAfter(limit func() int64) {
	l.mu.Lock()
	l.limit = limit
	l.mu.Unlock()
	l.cut(true)
}

// silence makes the open connections silent for good. If deaf, each later connection is silent, too.
func (l *link) silence(deaf bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = deaf
	for w := range l.wires {
		w.silent.Store(true)
	}
}

// hear lets later connections get bytes again.
func (l *link) hear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = false
}

// linkCounts are the numbers of a link's streams and of its cuts.
type linkCounts struct{ streams, open, cuts int }

func (l *link) counts() linkCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return linkCounts{l.streams, l.open, l.cuts}
}

// waitOneStream waits until the link has one stream: a tab that has just been opened asks by itself before it shares.
func (l *link) waitOneStream(t *testing.T) {
	t.Helper()
	waitFor(t, "one stream for all tabs", func(context.Context) bool { return l.counts().open == 1 })
}
