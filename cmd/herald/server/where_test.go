package server

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/auth"
	"herald/consumer"
)

// TestConditionsOfTokens opens streams of tokens with conditions on records. A stream gets the records that meet them, live
// and by replay, from every kind of topic. The records that it leaves out move its position: a stream that continues there
// without conditions does not get them.
func TestConditionsOfTokens(t *testing.T) {
	s := startSecured(t, nil)
	producer := consumer.NewProducer(s.broker.ListenAddrs(), nil, nil)
	t.Cleanup(producer.Close)
	produce := func(prefix string) {
		for _, topic := range []string{"notifications", "notifications.alice", "announcements"} {
			for _, region := range []string{"us", "", "eu2", "eu"} {
				m := consumer.Message{Topic: topic, Key: []byte("alice"), Value: []byte(prefix + topic + " " + region)}
				if region != "" {
					m.Headers = []consumer.Header{{Key: "region", Value: []byte("eu")}, {Key: "region", Value: []byte(region)}}
				}
				if _, err := producer.Produce(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	produce("old ")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	eu := bearer(s.token(t, auth.Identity{User: "alice", Where: []string{"header:region=eu"}}))
	live := openEvents(ctx, t, s.url+"/events?since=earliest", eu)
	read := func(n int) map[string]bool {
		got := make(map[string]bool)
		for len(got) < n {
			e, err := live.Next()
			if err != nil {
				t.Fatalf("%v after %v", err, got)
			}
			if e.Type != "checkpoint" {
				got[e.Data] = true
			}
		}
		return got
	}
	if diff := cmp.Diff(map[string]bool{"old notifications eu": true, "old notifications.alice eu": true, "old announcements eu": true}, read(3)); diff != "" {
		t.Errorf("by replay (-want +got):\n%s", diff)
	}
	produce("new ")
	if diff := cmp.Diff(map[string]bool{"new notifications eu": true, "new notifications.alice eu": true, "new announcements eu": true}, read(3)); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	for _, test := range []struct {
		where []string
		want  int
	}{
		{nil, 24},
		{[]string{}, 0},
		{[]string{"header:region=eu", "header:region=us"}, 12},
		{[]string{"header:region=eu", "header:event-type=news"}, 0},
		{[]string{"header:Region=eu"}, 0},
	} {
		got, end := s.pollAll(t, auth.Identity{User: "alice", Where: test.where}, "since=earliest")
		if len(got) != test.want {
			t.Errorf("%q: %d records, want %d", test.where, len(got), test.want)
		}
		if rest, _ := s.pollAll(t, auth.Identity{User: "alice"}, "lastEventId="+end); len(rest) != 0 {
			t.Errorf("%q: after its position come %v", test.where, rest)
		}
	}
}
