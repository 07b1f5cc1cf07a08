package broker

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestBrokerThatTimesOutIsReportedUntilItAnswers ends requests to a broker in different ways. CheckAnswering
// reports the broker if a request timed out and the broker answered none meanwhile, until it answers or
// hungFor has passed.
func TestBrokerThatTimesOutIsReportedUntilItAnswers(t *testing.T) {
	const id, other = 1, 2
	for name, test := range map[string]struct {
		happens  func(r *roster, begun time.Time)
		reported bool
	}{
		"a request times out":                {func(r *roster, begun time.Time) { r.recordOutcome(id, begun, context.DeadlineExceeded) }, true},
		"the connection times out":           {func(r *roster, begun time.Time) { r.recordOutcome(id, begun, os.ErrDeadlineExceeded) }, true},
		"the caller gives the request up":    {func(r *roster, begun time.Time) { r.recordOutcome(id, begun, context.Canceled) }, false},
		"a request to another one times out": {func(r *roster, begun time.Time) { r.recordOutcome(other, begun, context.DeadlineExceeded) }, false},
		"it answered before that request": {func(r *roster, begun time.Time) {
			r.recordOutcome(id, begun, nil)
			r.recordOutcome(id, time.Now(), context.DeadlineExceeded)
		}, true},
		"it answered during that request": {func(r *roster, begun time.Time) {
			r.recordOutcome(id, time.Now(), nil)
			time.Sleep(time.Second)
			r.recordOutcome(id, begun, context.DeadlineExceeded)
		}, false},
		"it answers after that request": {func(r *roster, begun time.Time) {
			r.recordOutcome(id, begun, context.DeadlineExceeded)
			r.recordOutcome(id, begun, nil)
		}, false},
		"a request timed out long ago": {func(r *roster, begun time.Time) {
			r.recordOutcome(id, begun, context.DeadlineExceeded)
			time.Sleep(hungFor)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, begun := NewCluster([]string{"127.0.0.1:1"}, nil, nil, time.Minute), time.Now()
				time.Sleep(RequestTimeout)
				test.happens(c.roster, begun)
				if err := c.CheckAnswering(id); (err != nil) != test.reported {
					t.Errorf("got %v, want an error: %v", err, test.reported)
				}
			})
		})
	}
}
