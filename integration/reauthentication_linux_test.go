package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestReauthentication runs herald at a listener where log-ins end, with each mechanism. Streams stay open, other streams
// reconnect, and records are published. No record is lost or repeated, nothing is logged, and herald logs in again on
// most of its connections instead of opening others.
func TestReauthentication(t *testing.T) {
	length := 8 * time.Second
	if text := os.Getenv(reauthenticationVariable); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	b := sharedSecureBroker(t)
	for name, flags := range map[string][]string{
		"PLAIN":         b.saslFlags("plain", "plain", "plain"),
		"SCRAM-SHA-256": b.saslFlags("scram-sha-256", "scram256", "scram256"),
		"SCRAM-SHA-512": b.saslFlags("scram-sha-512", "scram512", "scram512"),
		"OAUTHBEARER":   b.clientFlags(b.issuer.serve(t, 5*sessionLifetime())), // tokens end, too
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			complaints, stall := b.reauthenticate(t, flags, length)
			// Herald logs in again when at least 5 % of a session are left. A session ends if the machine stalls for longer
			// then. After such a stall there are further tries, because a fault of Herald shows in each of them.
			for try := 2; try <= 3 && len(complaints) > 0 && stall > sessionLifetime()/20; try++ {
				t.Logf("again after a stall of %v: %q", stall, complaints)
				complaints, stall = b.reauthenticate(t, flags, length)
			}
			for _, complaint := range complaints {
				t.Error(complaint)
			}
		})
	}
}

// reauthenticate runs herald with new topics and checks its records. It returns what else was not as it should be, and the
// longest time that a record took to be written.
func (b *secureBroker) reauthenticate(t *testing.T, flags []string, length time.Duration) (complaints []string, stall time.Duration) {
	t.Helper()
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	shared, everyone, posted := b.newTopic(t, "shared", 3), b.newTopic(t, "everyone", 1), b.newTopic(t, "posted", 1)
	h := startHerald(t, b.at(b.short), append(flags, "--topic="+posted, "--topic="+shared, "--topic="+everyone+",kind=broadcast", "--enable-publish")...)
	lanes := []*lane{
		{name: "shared/0", topic: shared, keys: []string{"alice"}},
		{name: "shared/1", topic: shared, partition: 1, keys: []string{"alice"}},
		{name: "shared/2", topic: shared, partition: 2, keys: []string{"bob"}},
		{name: "everyone", topic: everyone},
	}
	readers := []*laneReader{newLaneReader(t, h, "alice", 0), newLaneReader(t, h, "alice", 0), newLaneReader(t, h, "bob", 0), newLaneReader(t, h, "bob", 100)}
	var reading, writing sync.WaitGroup
	for _, r := range readers {
		reading.Go(func() { r.err = r.run(lanes) })
	}
	defer reading.Wait() // also if the test fails before
	defer writing.Wait()
	end := time.Now().Add(length)
	stalls := make([]time.Duration, len(lanes))
	for i, l := range lanes {
		writing.Go(func() { stalls[i] = b.writeUntil(t, l, end) })
	}
	var early, late []string
	for posts := 0; posts <= 5 || time.Now().Before(end); posts++ {
		if a := mustSend(t, http.MethodPost, "http://"+h.public+"/users/carol/notifications", "x"); a.status != http.StatusCreated {
			complain("POST: %d %s", a.status, a.body)
		}
		time.Sleep(250 * time.Millisecond)
		if late = h.sockets(b.short); posts == 5 {
			early = late
		}
	}
	writing.Wait()
	reading.Wait()
	records := int64(0)
	for _, l := range lanes {
		records += l.written.Load()
	}
	for _, r := range readers {
		if r.err != nil {
			t.Errorf("stream of %s: %v", r.stream.url, r.err)
		}
		r.got.check(t, lanesOf(lanes, r.user))
	}
	renewed, failed := h.Metric(`herald_kafka_reauthentications_total{result="ok"}`), h.Metric(`herald_kafka_reauthentications_total{result="error"}`)
	lasted := 0
	for _, socket := range early {
		if slices.Contains(late, socket) {
			lasted++
		}
	}
	t.Logf("%d records in %v; %v re-authentications, %v failed; of %d connections, %d lasted", records, length, renewed, failed, len(early), lasted)
	if least := 3 * int(length/(sessionLifetime()+heartbeats)); int(renewed) < least || failed > 0 {
		complain("%v re-authentications and %v that failed, want at least %d and none", renewed, failed, least)
	}
	// Without re-authentication, Kafka would close each connection after a session. A few may end on a busy machine: kafka-go
	// closes a connection that it uses no more, and Kafka one whose request comes too late.
	if lasted < 3 || 2*lasted < len(early) {
		complain("of %d connections, %d lasted", len(early), lasted)
	}
	if generations := h.Metric("herald_kafka_generations_total"); generations != 1 {
		complain("%v generations of the consumer group, want 1", generations)
	}
	if log := h.printed.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		complain("the log has complaints: %s", log)
	}
	h.Kill()
	return complaints, slices.Max(stalls)
}

// heartbeats is the time between the requests on the connection that a member of a consumer group has, the quietest of
// those in use.
const heartbeats = 3 * time.Second

// writeUntil writes a record to the lane every ten milliseconds until end, and then the last one. It returns the longest
// time that a record took.
func (b *broker) writeUntil(t *testing.T, l *lane, end time.Time) (longest time.Duration) {
	t.Helper()
	for n := 0; ; n++ {
		r := l.record(n)
		done := !time.Now().Before(end)
		if done {
			r.Value = []byte(l.name + " " + last)
		}
		begun := time.Now()
		if err := b.producer.ProduceSync(context.WithoutCancel(t.Context()), r).FirstErr(); err != nil {
			t.Errorf("produce to %s/%d: %v", l.topic, l.partition, err)
			return longest
		}
		longest = max(longest, time.Since(begun))
		if done {
			return longest
		}
		l.written.Add(1)
		time.Sleep(10 * time.Millisecond)
	}
}

// lanesOf returns the lanes with records for the user.
func lanesOf(lanes []*lane, user string) (of []*lane) {
	for _, l := range lanes {
		if l.of(user) {
			of = append(of, l)
		}
	}
	return of
}

// laneReader reads the records of some lanes from a stream of one user.
type laneReader struct {
	user   string
	stream *eventSource
	each   int // records after which it connects again; 0: never
	got    laneCounts
	err    error
}

// laneCounts has the number of records received from each lane, in the order of their numbers.
type laneCounts map[string]int64

func newLaneReader(t *testing.T, h *herald, user string, each int) *laneReader {
	t.Helper()
	return &laneReader{user: user, stream: openStream(t, h, user), each: each, got: make(laneCounts)}
}

// run reads until all lanes have ended. A record with any number but the next is an error.
func (r *laneReader) run(lanes []*lane) error {
	left := len(lanesOf(lanes, r.user))
	for n := 1; left > 0; n++ {
		e, err := r.stream.read()
		if err != nil {
			return err
		}
		if e.Type == "checkpoint" {
			continue
		}
		name, value, _ := strings.Cut(e.Data, " ")
		switch {
		case e.Type != "message":
			return fmt.Errorf("got %+v where a record was expected", e)
		case value == last:
			left--
		case value != fmt.Sprint(r.got[name]):
			return fmt.Errorf("got %s, want number %d", e.Data, r.got[name])
		default:
			r.got[name]++
		}
		if r.each > 0 && n%r.each == 0 {
			if err := r.stream.connect(); err != nil {
				return err
			}
		}
	}
	return nil
}

// check fails the test unless all records of the lanes have come.
func (c laneCounts) check(t *testing.T, lanes []*lane) {
	t.Helper()
	for _, l := range lanes {
		if want := l.written.Load(); c[l.name] != want {
			t.Errorf("%d records of %s, want %d", c[l.name], l.name, want)
		}
	}
}

// sockets returns the connections of herald to the address, each by its inode, which no later connection has.
func (h *herald) sockets(address string) []string {
	h.t.Helper()
	_, text, _ := strings.Cut(address, ":")
	var port int
	if _, err := fmt.Sscan(text, &port); err != nil {
		h.t.Fatal(err)
	}
	pid := h.command.Process.Pid
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		h.t.Fatal(err)
	}
	to := make(map[string]bool) // inodes
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 9 && strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", port)) {
			to["socket:["+fields[9]+"]"] = true
		}
	}
	directory := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(directory)
	if err != nil {
		h.t.Fatal(err)
	}
	var open []string
	for _, f := range files {
		target, err := os.Readlink(filepath.Join(directory, f.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // closed since
			h.t.Fatal(err)
		}
		if to[target] {
			open = append(open, target)
		}
	}
	return open
}
