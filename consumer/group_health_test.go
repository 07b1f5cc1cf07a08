package consumer

import (
	"fmt"
	"log/slog"
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

// connectionReset returns an error of the network, which differs by the port.
func connectionReset(port int) error { return fmt.Errorf("read tcp :%d: connection reset", port) }

// groupCourses are ways in which a group fails and works, and the levels of the log lines that each makes.
var groupCourses = map[string]struct {
	course func(h *groupHealth, away *bool)
	want   []string // the levels of the lines
}{
	"failures that pass": {func(h *groupHealth, _ *bool) {
		for range 3 {
			h.recordFailure(kafka.GroupCoordinatorNotAvailable)
			time.Sleep(groupPatience - time.Second)
			h.recordFailure(kafka.GroupLoadInProgress)
			h.recordSuccess()
		}
	}, nil},
	"a failure that lasts": {func(h *groupHealth, _ *bool) {
		for i := range 60 {
			h.recordFailure(connectionReset(i))
			time.Sleep(time.Second)
		}
		h.recordSuccess()
		h.recordSuccess()
	}, []string{"WARN", "INFO"}},
	"a right is missing": {func(h *groupHealth, _ *bool) {
		for range 60 {
			h.recordFailure(fmt.Errorf("join: %w", kafka.GroupAuthorizationFailed))
			h.recordFailure(fmt.Errorf("commit: %w", kerr.GroupAuthorizationFailed))
			time.Sleep(time.Second)
		}
		h.recordSuccess()
	}, []string{"ERROR", "INFO"}},
	"one reason, then two in turn": {func(h *groupHealth, _ *bool) {
		for range 60 {
			h.recordFailure(kerr.NotCoordinator)
			time.Sleep(time.Second)
		}
		for range 60 {
			h.recordFailure(kerr.NotCoordinator)
			h.recordFailure(kerr.GroupAuthorizationFailed)
		}
		h.recordSuccess()
	}, []string{"WARN", "ERROR", "INFO"}},
	"two failures": {func(h *groupHealth, _ *bool) {
		for range 2 {
			h.recordFailure(kerr.GroupAuthorizationFailed)
			h.recordSuccess()
		}
	}, []string{"ERROR", "INFO", "ERROR", "INFO"}},
	"Kafka does not answer at all": {func(h *groupHealth, away *bool) {
		*away = true
		for i := range 60 {
			h.recordFailure(connectionReset(i))
			time.Sleep(time.Second)
		}
		*away = false
		h.recordFailure(kerr.CoordinatorLoadInProgress)
		h.recordSuccess()
	}, nil},
}

// TestFailingGroupIsLoggedOnce checks the number and the levels of the log lines while a group fails and
// works in different ways.
func TestFailingGroupIsLoggedOnce(t *testing.T) {
	for name, test := range groupCourses {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &said{Handler: slog.NewTextHandler(t.Output(), nil)}
				away := false
				test.course(&groupHealth{
					group: "g.one", prefix: "g.", online: func() bool { return !away },
					failures: newMetrics(nil).errors.WithLabelValues("group"), log: slog.New(log),
				}, &away)
				lines := log.all()
				if len(lines) != len(test.want) {
					t.Fatalf("%d log lines, want the levels %v:\n%s", len(lines), test.want, strings.Join(lines, "\n"))
				}
				for i, level := range test.want {
					if !strings.HasPrefix(lines[i], level+" ") || !strings.Contains(lines[i], " group=g.one") {
						t.Errorf("line %d is %q, want level %s and the group's name", i, lines[i], level)
					}
				}
			})
		})
	}
}

// TestMissingRightOnAGroupDelaysNoRecord denies joining the replica's group or committing delivered
// positions. It checks that records arrive, that the failures are counted, that one log line names the
// missing right, and that commits continue once the right is granted.
func TestMissingRightOnAGroupDelaysNoRecord(t *testing.T) {
	for name, test := range map[string]struct {
		key   kmsg.Key
		group string
	}{
		"replica":   {kmsg.JoinGroup, "test.one"},
		"delivered": {kmsg.OffsetCommit, "test.delivered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := newBroker(t, kfake.SeedTopics(1, "t", "own.alice"))
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
			c.Delivered(Partition{Topic: "own.alice", ID: 0}, c.topics.idOf("own.alice"), 1)
			waitFor(t, "Herald tries again", func() bool { return denied.Hits() >= 3 })
			log.wait(t, "ERROR consumer group …group="+test.group+" …Read on this group or on the prefix test.…uthoriz…")
			if n := testutil.ToFloat64(c.metrics.errors.WithLabelValues("group")); n < 2 {
				t.Errorf("%v failures are counted, want at least 2", n)
			}
			denied.Remove()
			again := "INFO consumer group works again group=" + test.group
			log.wait(t, again)
			waitCommitted(t, broker, "test.one", Partition{Topic: "t", ID: 0}, 1)
			waitCommitted(t, broker, "test.delivered", Partition{Topic: "own.alice", ID: 0}, 1)
			if failed, again := log.count("ERROR consumer group …"), log.count(again); failed != 1 || again != 1 || log.count("…consumer group…") != 2 {
				t.Errorf("%d lines report that the group fails and %d that it works again, want one of each:\n%s", failed, again, strings.Join(log.all(), "\n"))
			}
		})
	}
}
