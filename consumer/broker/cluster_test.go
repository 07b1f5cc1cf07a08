package broker

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// TestRequestAfterClose sends a request after Close, as the streams of a server that stops may do. It fails, and afterwards no
// goroutine and no connection is left.
func TestRequestAfterClose(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c := NewCluster(broker.ListenAddrs(), nil, nil, time.Minute)
	if _, err := c.FetchMetadata(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	c.Close()
	begun := time.Now()
	if _, err := c.FetchMetadata(t.Context(), nil, false); err == nil {
		t.Error("a request after Close succeeds")
	}
	if took := time.Since(begun); took > RequestTimeout/2 {
		t.Errorf("the request fails after %v, want at once", took)
	}
	for deadline := time.Now().Add(RequestTimeout); c.Connections() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are open", c.Connections())
		}
	}
}
