package broker

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestOldFailureOfAMechanism has a mechanism fail to start once, and much later a broker that does not answer. The error
// is a time-out of the broker then, which the roster must know.
func TestOldFailureOfAMechanism(t *testing.T) {
	broker := newFake(t, kfake.SeedTopics(1, "t"))
	broker.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		return answerTo(req), nil, true
	})
	broker.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		return answerTo(req), nil, true
	})
	var hung atomic.Bool
	broker.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		for hung.Load() {
			time.Sleep(10 * time.Millisecond)
		}
		return nil, nil, false
	})
	c := NewCluster(broker.ListenAddrs(), nil, mechanism(func(context.Context) error { return nil }), time.Minute)
	defer c.Close()
	if _, err := c.Request(t.Context(), Any, kmsg.NewPtrMetadataRequest(), nil); err != nil {
		t.Fatal(err)
	}
	c.unstarted.Store(&startError{mechanism: "TEST", cause: errors.New("token endpoint: 503"), at: time.Now()})
	hung.Store(true)
	defer hung.Store(false)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Request(ctx, Any, kmsg.NewPtrMetadataRequest(), nil); !isTimeout(err) || strings.Contains(err.Error(), "token endpoint") {
		t.Errorf("%v, want a time-out", err)
	}
}

// answerTo returns a response without an error.
func answerTo(req kmsg.Request) kmsg.Response {
	res := req.ResponseKind()
	res.SetVersion(req.GetVersion())
	return res
}
