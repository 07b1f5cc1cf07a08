package consumer

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestUnansweredFirstRequest wants the reason for which a consumer is not ready to say how long the first request to
// Kafka has waited.
func TestUnansweredFirstRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContact([]string{"a:9092", "b:9092"}, nil, nil)
		time.Sleep(3 * time.Second)
		if got, want := (*c.failure.Load()).Error(), "asked a:9092, b:9092 3s ago, no answer yet"; !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}
