package consumer

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestGroupHealth has a group fail and work and counts the lines.
func TestGroupHealth(t *testing.T) {
	network := func(port int) error { return fmt.Errorf("read tcp :%d: connection reset", port) }
	for name, test := range map[string]struct {
		course func(h *groupHealth)
		want   []string // the lines' levels
	}{
		"passes": {func(h *groupHealth) {
			for range 3 {
				h.failed(kafka.GroupCoordinatorNotAvailable)
				time.Sleep(groupPatience - time.Second)
				h.failed(kafka.GroupLoadInProgress)
				h.worked()
			}
		}, nil},
		"lasts": {func(h *groupHealth) {
			for i := range 60 {
				h.failed(network(i))
				time.Sleep(time.Second)
			}
			h.worked()
			h.worked()
		}, []string{"WARN", "INFO"}},
		"denied": {func(h *groupHealth) {
			for range 60 {
				h.failed(fmt.Errorf("join: %w", kafka.GroupAuthorizationFailed))
				h.failed(fmt.Errorf("commit: %w", kerr.GroupAuthorizationFailed))
				time.Sleep(time.Second)
			}
			h.worked()
		}, []string{"ERROR", "INFO"}},
		"for one reason, then two in turn": {func(h *groupHealth) {
			for range 60 {
				h.failed(kerr.NotCoordinator)
				time.Sleep(time.Second)
			}
			for range 60 {
				h.failed(kerr.NotCoordinator)
				h.failed(kerr.GroupAuthorizationFailed)
			}
			h.worked()
		}, []string{"WARN", "ERROR", "INFO"}},
		"twice": {func(h *groupHealth) {
			for range 2 {
				h.failed(kerr.GroupAuthorizationFailed)
				h.worked()
			}
		}, []string{"ERROR", "INFO", "ERROR", "INFO"}},
		"with all of Kafka": {func(h *groupHealth) {
			away := errors.New("no answer")
			h.consumer.away.Store(&away)
			for i := range 60 {
				h.failed(network(i))
				time.Sleep(time.Second)
			}
			h.consumer.away.Store(nil)
			h.failed(kerr.CoordinatorLoadInProgress)
			h.worked()
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := configured(t, []string{"127.0.0.1:1"}, newLedger(), "group=g", "t")
				c.away.Store(nil)
				log := hear(t, c)
				test.course(&groupHealth{consumer: c, group: "g.one"})
				lines := log.all()
				if len(lines) != len(test.want) {
					t.Fatalf("%d lines, want %v:\n%s", len(lines), test.want, strings.Join(lines, "\n"))
				}
				for i, level := range test.want {
					if !strings.HasPrefix(lines[i], level+" ") || !strings.Contains(lines[i], " group=g.one") {
						t.Errorf("line %d is %s, want level %s and the group", i, lines[i], level)
					}
				}
			})
		})
	}
}

// TestGroupIsDenied denies joining the replica's group, then committing what was delivered. Reading
// goes on, one line says what is missing, failures are counted, and commits go on once it is allowed.
func TestGroupIsDenied(t *testing.T) {
	for name, test := range map[string]struct {
		key   kmsg.Key
		group string
	}{
		"member":    {kmsg.JoinGroup, "test.one"},
		"delivered": {kmsg.OffsetCommit, "test.delivered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t", "own.alice"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(broker.Close)
			denied := broker.Fault(kfake.Fault{Keys: []kmsg.Key{test.key}, Group: test.group, TopLevel: test.key == kmsg.JoinGroup, Err: kerr.GroupAuthorizationFailed, Count: -1})
			sink := newLedger()
			c := configured(t, broker.ListenAddrs(), sink, "t", "own.{user}")
			log := hear(t, c)
			run(t, c)
			if _, err := c.Join(t.Context(), "alice"); err != nil {
				t.Fatal(err)
			}
			write := partitioned(t, broker)
			write("t", 0, "alice", "shared")
			write("own.alice", 0, "alice", "own")
			sink.wantLines(t, []string{"alice own", "alice shared"})
			c.Delivered(Partition{Topic: "own.alice", ID: 0}, c.topicID("own.alice"), 1)
			waitFor(t, "it is tried again", func() bool { return denied.Hits() >= 3 })
			log.wait(t, "ERROR consumer group …group="+test.group+" …Read on this group or on the prefix test.…uthoriz…")
			if n := testutil.ToFloat64(c.metrics.errors.WithLabelValues("group")); n < 2 {
				t.Errorf("%v failures are counted, want each", n)
			}
			denied.Remove()
			again := "INFO consumer group works again group=" + test.group
			log.wait(t, again)
			waitCommitted(t, broker, "test.one", Partition{Topic: "t", ID: 0}, 1)
			waitCommitted(t, broker, "test.delivered", Partition{Topic: "own.alice", ID: 0}, 1)
			if failed, again := log.count("ERROR consumer group …"), log.count(again); failed != 1 || again != 1 || log.count("…consumer group…") != 2 {
				t.Errorf("%d lines when it fails and %d when it works again, want one of each:\n%s", failed, again, strings.Join(log.all(), "\n"))
			}
		})
	}
}
