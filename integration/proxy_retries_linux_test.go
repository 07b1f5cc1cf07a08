package integration

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// vanishing stands for a replica that is ready, and ends before it answers a request.
type vanishing struct{ gets, posts atomic.Int64 }

func (v *vanishing) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/readyz" {
		return
	}
	if r.Method == http.MethodPost {
		v.posts.Add(1)
	} else {
		v.gets.Add(1)
	}
	panic(http.ErrAbortHandler) // closes the connection
}

// listenOn serves requests at the address until the end of the test.
func listenOn(t *testing.T, address string, handler http.Handler) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
}

// TestProxiesRetry has each proxy send requests to two replicas that end before they answer. The proxy must ask the
// other replica for a stream, and must not send a notification to both: it would be written twice. The requests are
// sent over HTTP/1.1, because over HTTP/2 HAProxy answers a request that failed this way with REFUSED_STREAM, and
// clients then repeat it by themselves.
func TestProxiesRetry(t *testing.T) {
	for _, d := range installedProxies(t) {
		t.Run("retries of "+d.name, func(t *testing.T) {
			t.Parallel()
			at := newReplicaAddresses(t)
			var replicas [2]vanishing
			for i := range replicas {
				listenOn(t, at.public(i), &replicas[i])
				listenOn(t, at.admin(i), &replicas[i])
			}
			p := d.start(t, at)
			p.http1 = true
			// A replica that has failed gets no requests for a second.
			waitFor(t, "a notification reaches a replica", func(context.Context) bool {
				if status, _, _ := p.send(t, http.MethodPost, "/users/alice/notifications"); status < 502 || status > 504 {
					t.Errorf("a notification gets %d, want 502, 503 or 504", status)
				}
				return replicas[0].posts.Load()+replicas[1].posts.Load() > 0
			})
			if n := replicas[0].posts.Load() + replicas[1].posts.Load(); n != 1 {
				t.Errorf("the replicas have %d requests of one notification", n)
			}
			waitFor(t, "both replicas are asked for a stream", func(context.Context) bool {
				before := [2]int64{replicas[0].gets.Load(), replicas[1].gets.Load()}
				p.checkLater(t)
				return replicas[0].gets.Load() > before[0] && replicas[1].gets.Load() > before[1]
			})
		})
	}
}
