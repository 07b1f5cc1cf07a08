package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// traffic is one producer for each partition, which writes whatever happens to the cluster, and streams of several
// users, which read all the time.
type traffic struct {
	t     *testing.T
	c     *cluster
	h     *herald
	users []string
	lanes []*lane

	readers   []*trafficReader
	stop      chan struct{}
	producers sync.WaitGroup
}

// last is the value after all numbers. It is written once for each key.
const last = "last"

// trafficReader is one client.
type trafficReader struct {
	name   string
	user   string
	stream *eventSource
	each   int // records after which the client connects again; 0: never
	done   chan struct{}

	mu  sync.Mutex
	got map[string][]string // values by lane
	err error
}

// startTraffic starts herald with a route of each kind, the producers, and for each of two users a stream that
// stays open and a stream that is cut and resumed all the time. If first is not empty, Herald's --brokers names
// only these nodes.
func startTraffic(t *testing.T, c *cluster, first ...*node) *traffic {
	t.Helper()
	told := c.broker
	if len(first) > 0 {
		told.addresses = nil
		for _, n := range first {
			told.addresses = append(told.addresses, n.address)
		}
	}
	tr := &traffic{t: t, c: c, users: []string{"alice", "bob"}, stop: make(chan struct{})}
	shared, everyone, own := c.newTopic(t, "shared", clusterSize), c.newTopic(t, "everyone", 1), topicName(t, "own")
	for p := range int32(clusterSize) {
		tr.lanes = append(tr.lanes, &lane{name: fmt.Sprint("shared/", p), topic: shared, partition: p, keys: tr.users})
	}
	tr.lanes = append(tr.lanes, &lane{name: "everyone", topic: everyone, keys: []string{""}})
	for _, user := range tr.users {
		c.createTopic(t, own+"."+user, 1)
		tr.lanes = append(tr.lanes, &lane{name: "own." + user, topic: own + "." + user, keys: []string{user}})
	}
	tr.h = startHerald(t, &told, "--topic="+shared, "--topic="+own+".{user}", "--topic="+everyone+",kind=broadcast")
	t.Cleanup(tr.end)
	for _, user := range tr.users {
		tr.read(user, 0)
		tr.read(user, 50)
	}
	for _, l := range tr.lanes {
		tr.producers.Go(func() { tr.write(l) })
	}
	tr.Advance()
	return tr
}

func (tr *traffic) write(l *lane) {
	ctx := context.WithoutCancel(tr.t.Context())
	put := func(key, value string) bool {
		r := record(l.topic, key, l.name+" "+value)
		r.Partition = l.partition
		if err := tr.c.producer.ProduceSync(ctx, r).FirstErr(); err != nil {
			tr.t.Errorf("produce to %s/%d: %v", l.topic, l.partition, err)
			return false
		}
		return true
	}
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-tr.stop:
			for _, key := range l.keys {
				put(key, last)
			}
			return
		case <-pace.C:
		}
		if !put(l.keys[n%len(l.keys)], fmt.Sprint(n)) {
			return
		}
		l.written.Store(int64(n) + 1)
	}
}

// end stops the producers and waits for them.
func (tr *traffic) end() {
	select {
	case <-tr.stop:
	default:
		close(tr.stop)
	}
	tr.producers.Wait()
}

// read opens a stream and reads it until each of its lanes has ended.
func (tr *traffic) read(user string, each int) {
	tr.t.Helper()
	r := &trafficReader{
		name: fmt.Sprintf("%s, cut every %d", user, each), user: user, each: each,
		stream: openStream(tr.t, tr.h, user), done: make(chan struct{}), got: make(map[string][]string),
	}
	// No record arrives while all brokers are stopped. Advance and Finish check that records arrive in time.
	r.stream.patience = time.Hour
	lanes := 0
	for _, l := range tr.lanes {
		if l.of(user) {
			lanes++
		}
	}
	tr.readers = append(tr.readers, r)
	go func() {
		defer close(r.done)
		err := r.run(lanes)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = err
	}()
}

func (r *trafficReader) run(lanes int) error {
	since := 0
	for lanes > 0 {
		e, err := r.stream.read()
		if err != nil {
			return err
		}
		if e.Type == "checkpoint" {
			continue
		}
		if e.Type != "message" {
			return fmt.Errorf("got %+v where a record was expected", e)
		}
		name, value, _ := strings.Cut(e.Data, " ")
		r.mu.Lock()
		r.got[name] = append(r.got[name], value)
		r.mu.Unlock()
		if value == last {
			lanes--
		}
		if since++; since == r.each {
			since = 0
			if err := r.stream.connect(); err != nil {
				return err
			}
		}
	}
	return nil
}

// has reports whether the client has received the lane's number n.
func (r *trafficReader) has(l *lane, n int64) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got[l.name]
	if len(got) == 0 {
		return false, r.err
	}
	var at int64
	_, err := fmt.Sscan(got[len(got)-1], &at)
	return at >= n, errors.Join(err, r.err)
}

// Advance waits until each client has received, from each of its lanes, a record written after the call.
func (tr *traffic) Advance() { tr.t.Helper(); tr.AdvanceIn(tr.lanes...) }

// AdvanceIn waits as Advance does, for these lanes only.
func (tr *traffic) AdvanceIn(lanes ...*lane) {
	tr.t.Helper()
	from := make(map[*lane]int64)
	for _, l := range lanes {
		from[l] = l.written.Load() + 1 // number written may be on its way already
	}
	behind := ""
	waitWithin(tr.t, 2*patience, func() string { return behind }, func(context.Context) bool {
		behind = ""
		for _, l := range lanes {
			for _, r := range tr.readers {
				if !l.of(r.user) {
					continue
				}
				has, err := r.has(l, from[l])
				if err != nil {
					tr.t.Fatalf("%s: %v", r.name, err)
				}
				if !has {
					behind = fmt.Sprintf("%s receives number %d of %s, of which %d are written", r.name, from[l], l.name, l.written.Load())
				}
			}
		}
		return behind == ""
	})
}

// Finish ends the producers and compares the records of each client with the log.
func (tr *traffic) Finish() {
	tr.t.Helper()
	tr.end()
	log := make(map[string][]*kgo.Record)
	for _, l := range tr.lanes {
		log[l.name] = tr.c.recordsOf(tr.t, l.topic, l.partition)
	}
	for _, r := range tr.readers {
		select {
		case <-r.done:
		case <-time.After(2 * patience):
			tr.t.Fatalf("%s has not received the end of its lanes", r.name)
		}
		if r.err != nil {
			tr.t.Errorf("%s: %v", r.name, r.err)
		}
		want := make(map[string][]string)
		for _, l := range tr.lanes {
			for _, rec := range log[l.name] {
				if key := string(rec.Key); key == r.user || key == "" {
					_, value, _ := strings.Cut(string(rec.Value), " ")
					want[l.name] = append(want[l.name], value)
				}
			}
		}
		if diff := cmp.Diff(want, r.got); diff != "" {
			tr.t.Errorf("%s, records by partition (-log +got):\n%s", r.name, diff)
		}
	}
	total := 0
	for name := range maps.Keys(log) {
		total += len(log[name])
	}
	tr.t.Logf("%d records", total)
}
