package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herald/consumer"
)

// This is a model of everything that streams live on: a Kafka cluster, replicas of Herald that each
// know a part of it, and clients. The streams, the hub, the cursors and ids are the real ones; one
// random source drives what happens between and in the midst of their steps, so that a seed replays
// exactly. At the end each client's events are compared with the log.
//
// HERALD_SIMULATION_SEEDS says how many seeds are tried, HERALD_SIMULATION_SEED runs a single one.

// logRecord is one record of the model's log; a hole (compaction, a control record) has no value.
type logRecord struct {
	user  string
	value string
	time  int // when it was appended, in events of the world
}

// logPartition is a partition of the model's cluster.
type logPartition struct {
	start   int64
	records []logRecord // by offset
}

type logTopic struct {
	name       string
	kind       consumer.Kind
	id         [16]byte // zero: it does not exist
	partitions []*logPartition
}

// world is the cluster, the replicas and the clients.
type world struct {
	t        *testing.T
	random   *rand.Rand
	planted  string
	topics   []*logTopic
	past     map[[16]byte]*logTopic // by id, those that were deleted too
	replicas []*replica
	clients  []*simClient
	now      int
	ids      byte
	calm     bool // no more faults: everything settles
	depth    int
}

// replica is one Herald: how far it has read what it knows of the cluster. It is the Log of its
// streams.
type replica struct {
	*world
	hub  *Hub
	read map[consumer.Partition]int64
	ids  map[string][16]byte
}

// simClient is a client over all its connections.
type simClient struct {
	user     string
	replica  *replica
	feed     *feed
	body     *cutBody
	lastID   string
	opened   bool // it once had a checkpoint: from then on it is promised everything
	openedAt int
	events   []event
}

// cutBody is a response whose connection breaks at some byte.
type cutBody struct {
	world *world
	text  []byte
	limit int // bytes that arrive; -1: all
}

var errCut = errors.New("cut")

func (c *cutBody) Header() http.Header { return http.Header{} }
func (c *cutBody) WriteHeader(int)     {}
func (c *cutBody) Flush()              {}
func (c *cutBody) Write(b []byte) (int, error) {
	c.world.interlude()
	if c.limit >= 0 && len(c.text)+len(b) > c.limit {
		c.text = append(c.text, b[:c.limit-len(c.text)]...)
		return 0, errCut
	}
	c.text = append(c.text, b...)
	return len(b), nil
}

func newWorld(t *testing.T, seed uint64, planted string) *world {
	t.Helper()
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 1)), planted: planted, past: make(map[[16]byte]*logTopic)}
	for _, topic := range []*logTopic{
		{name: "shared", kind: consumer.Shared},
		{name: "all", kind: consumer.Broadcast},
		{name: "own.alice", kind: consumer.PerUser},
		{name: "own.bob", kind: consumer.PerUser},
	} {
		w.topics = append(w.topics, topic)
		if w.random.IntN(4) > 0 {
			w.create(topic)
		}
	}
	for range 2 {
		r := &replica{world: w, hub: NewHub("event-type", nil), read: make(map[consumer.Partition]int64), ids: make(map[string][16]byte)}
		r.hub.interleave = w.interlude
		w.replicas = append(w.replicas, r)
		for _, topic := range w.topics {
			r.learn(topic, false)
		}
	}
	for range 4 {
		w.clients = append(w.clients, &simClient{user: []string{"alice", "bob"}[w.random.IntN(2)]})
	}
	return w
}

func (w *world) create(topic *logTopic) {
	w.ids++
	topic.id = [16]byte{w.ids}
	topic.partitions = nil
	for range 1 + w.random.IntN(3) {
		topic.partitions = append(topic.partitions, new(logPartition))
	}
	w.past[topic.id] = &logTopic{name: topic.name, kind: topic.kind, id: topic.id, partitions: topic.partitions}
}

// learn brings what the replica reads in line with the topic, as the consumer does: partitions that
// come up later are read from their start.
func (r *replica) learn(topic *logTopic, later bool) {
	if r.ids[topic.name] != topic.id {
		for p := range r.read {
			if p.Topic == topic.name {
				delete(r.read, p)
				r.hub.End(p)
			}
		}
		later = later || r.ids[topic.name] != [16]byte{}
		r.ids[topic.name] = topic.id
	}
	if topic.id == [16]byte{} {
		return
	}
	for i, part := range topic.partitions {
		p := consumer.Partition{Topic: topic.name, ID: int32(i)}
		if _, known := r.read[p]; known {
			continue
		}
		r.read[p] = int64(len(part.records))
		if later {
			r.read[p] = part.start
		}
		r.hub.Begin(p, topic.id, r.read[p])
	}
}

// advance reads on in one partition.
func (r *replica) advance(topic *logTopic, i int) {
	p := consumer.Partition{Topic: topic.name, ID: int32(i)}
	at, known := r.read[p]
	if !known || r.ids[topic.name] != topic.id {
		return
	}
	part := topic.partitions[i]
	if at < part.start {
		r.read[p] = part.start
		r.hub.Gap(p, consumer.Gap{From: at, To: part.start, Reason: consumer.GapRetention})
		return
	}
	end := at + int64(r.random.IntN(4))
	if r.calm {
		end = int64(len(part.records))
	}
	end = min(end, int64(len(part.records)))
	var records []consumer.Record
	for o := at; o < end; o++ {
		if rec := topic.record(part, o); rec != nil {
			records = append(records, *rec)
		}
	}
	if r.planted == "position before the records" && r.depth == 0 {
		r.hub.topics[p.Topic].partitions[p.ID].next.Store(end)
		for _, c := range r.clients {
			if c.feed != nil && c.replica == r {
				c.feed.beat()
			}
		}
	}
	r.read[p] = end
	r.hub.Deliver(p, records, end)
}

// record returns the record as a consumer hands it over; nil for a hole.
func (t *logTopic) record(part *logPartition, offset int64) *consumer.Record {
	rec := part.records[offset]
	if rec.value == "" {
		return nil
	}
	return &consumer.Record{Offset: offset, Value: []byte(rec.value), User: []byte(rec.user), Broadcast: t.kind == consumer.Broadcast}
}

// Join implements Log.
func (r *replica) Join(context.Context, string) ([]string, error) {
	panic("the model adds subscriptions itself")
}

// Leave implements Log.
func (r *replica) Leave(string) {}

// Delivered implements Log.
func (r *replica) Delivered(consumer.Partition, int64) {}

// DeliveredTo implements Log.
func (r *replica) DeliveredTo(context.Context, string) (map[consumer.Partition]int64, error) {
	panic("not modelled")
}

// Since implements Log.
func (r *replica) Since(context.Context, []string, time.Time) (map[consumer.Partition]int64, error) {
	panic("not modelled")
}

// Confirm implements Log.
func (r *replica) Confirm(_ context.Context, name string, topicID [16]byte) error {
	topic := r.topic(name)
	defer r.learn(topic, true) // soon
	if r.fails() || topic.id != topicID {
		return consumer.ErrRecreated
	}
	return nil
}

// Range implements Log.
func (r *replica) Range(_ context.Context, p consumer.Partition, topicID [16]byte) (start, end int64, err error) {
	r.interlude()
	topic := r.topic(p.Topic)
	if r.fails() {
		return 0, 0, errors.New("kafka has no answer")
	}
	if topic.id != topicID {
		return 0, 0, consumer.ErrRecreated
	}
	part := topic.partitions[p.ID]
	return part.start, int64(len(part.records)), nil
}

// Replay implements Log.
func (r *replica) Replay(ctx context.Context, p consumer.Partition, topicID [16]byte, user string, from, to int64, fn func(*consumer.Record) bool) (int64, error) {
	r.interlude()
	topic := r.topic(p.Topic)
	if r.planted == "seam one too early" {
		to--
	}
	if topic.id != topicID {
		return from, consumer.ErrRecreated
	}
	part := topic.partitions[p.ID]
	for ; from < to; from++ {
		if r.fails() {
			return from, errors.New("kafka has no answer")
		}
		if from < part.start || from > int64(len(part.records)) {
			return from, &consumer.OutOfRangeError{Position: consumer.Position{Partition: p, Offset: from}, Start: part.start, End: int64(len(part.records))}
		}
		rec := topic.record(part, from)
		if rec != nil && (rec.Broadcast || string(rec.User) == user) && !fn(rec) {
			return from, nil
		}
	}
	return from, ctx.Err()
}

func (w *world) topic(name string) *logTopic {
	return w.topics[slices.IndexFunc(w.topics, func(t *logTopic) bool { return t.name == name })]
}

func (w *world) fails() bool { return !w.calm && w.random.IntN(20) == 0 }

// interlude lets things happen in the midst of a stream's step.
func (w *world) interlude() {
	if w.depth > 0 || w.calm && w.random.IntN(2) == 0 {
		return
	}
	w.depth++
	for w.random.IntN(3) == 0 {
		w.happen()
	}
	w.depth--
}

// happen is one random event of the cluster or of a replica.
func (w *world) happen() {
	w.now++
	topic := w.topics[w.random.IntN(len(w.topics))]
	r := w.replicas[w.random.IntN(len(w.replicas))]
	exists := len(topic.partitions) > 0
	n := w.random.IntN(100)
	if w.calm {
		n = 40 + w.random.IntN(45)
	}
	switch {
	case n < 40 && exists:
		w.append(topic, w.random.IntN(len(topic.partitions)))
	case n < 70 && exists:
		r.advance(topic, w.random.IntN(len(topic.partitions)))
	case n < 85:
		r.learn(topic, true)
	case n < 88 && exists && len(topic.partitions) < 5:
		topic.partitions = append(topic.partitions, new(logPartition))
		w.past[topic.id].partitions = topic.partitions
	case n < 91 && exists:
		part := topic.partitions[w.random.IntN(len(topic.partitions))]
		part.start += int64(w.random.IntN(len(part.records) - int(part.start) + 1))
	case n < 92 && exists:
		topic.id, topic.partitions = [16]byte{}, nil // deleted
	case n < 97 && !exists:
		w.create(topic)
	}
}

func (w *world) append(topic *logTopic, i int) {
	part := topic.partitions[i]
	rec := logRecord{time: w.now}
	if w.random.IntN(5) > 0 {
		rec.user = []string{"alice", "bob", "carol"}[w.random.IntN(3)]
		if topic.kind == consumer.PerUser {
			rec.user = strings.TrimPrefix(topic.name, "own.")
		}
		rec.value = fmt.Sprintf("%d/%d/%d", topic.id[0], i, len(part.records))
	}
	part.records = append(part.records, rec)
}

// connect opens a stream of the client at some replica.
func (w *world) connect(c *simClient) {
	c.replica = w.replicas[w.random.IntN(len(w.replicas))]
	c.body = &cutBody{world: w, limit: -1}
	if !w.calm && w.random.IntN(2) == 0 {
		c.body.limit = w.random.IntN(2000)
	}
	sub := newSubscription(c.user, []string{"shared", "all", "own." + c.user}, 64+w.random.IntN(400), func() {})
	if w.planted == "overflow not noticed" {
		sub.overflow = func() { sub.behind = false }
	}
	c.replica.hub.add(sub)
	c.feed = &feed{
		hub: c.replica.hub, log: c.replica, sub: sub, heartbeat: time.Minute, turn: w.random.IntN(10),
		out: &writer{ResponseWriter: c.body, control: http.NewResponseController(c.body), timeout: time.Second, metrics: c.replica.hub.metrics},
	}
	c.feed.request.lastID = c.lastID
	if err := c.feed.begin(w.t.Context()); err != nil {
		w.disconnect(c)
		return
	}
	if !c.opened && len(parse(c.body.text).events) > 0 {
		c.opened, c.openedAt = true, w.now
	}
}

// disconnect ends the connection: the client keeps the whole events that arrived.
func (w *world) disconnect(c *simClient) {
	c.replica.hub.remove(c.feed.sub)
	got := parse(c.body.text)
	if os.Getenv("HERALD_SIMULATION_SEED") != "" {
		w.t.Logf("%p %s asked with %q and got\n%s", c, c.user, c.lastID, c.body.text)
	}
	if n := len(got.events); n > 0 {
		c.events = append(c.events, got.events...)
		c.lastID = got.events[n-1].id
	}
	c.feed = nil
}

// step lets one client go on a little.
func (w *world) step(c *simClient) {
	if c.feed == nil {
		w.connect(c)
		return
	}
	var err error
	switch w.random.IntN(10) {
	case 0:
		if !w.calm {
			w.disconnect(c)
			return
		}
	case 1:
		if w.planted == "checkpoint ahead of the queue" {
			now := c.feed.hub.positions(c.feed.sub.topics)
			c.feed.advance(now)
		}
		if w.random.IntN(2) == 0 {
			c.feed.moved += checkpointAfter // as if the position had moved far
		}
		c.feed.beat()
		err = c.feed.flush()
	default:
		if len(c.feed.waiting) > 0 && w.random.IntN(2) == 0 {
			c.feed.sub.unsettle() // the time to try again
		}
		err = c.feed.deliver(w.t.Context())
	}
	if err != nil {
		w.disconnect(c)
	}
}

// run lets the world run, then settle, and checks what each client has got.
func (w *world) run() []string {
	for range 400 {
		switch w.random.IntN(3) {
		case 0:
			w.step(w.clients[w.random.IntN(len(w.clients))])
		default:
			w.happen()
		}
	}
	w.calm = true
	for _, c := range w.clients {
		if c.feed != nil && c.body.limit >= 0 {
			w.disconnect(c)
		}
	}
	for _, r := range w.replicas {
		for _, topic := range w.topics {
			r.learn(topic, true)
		}
	}
	for range 10 {
		for _, r := range w.replicas {
			for _, topic := range w.topics {
				for i := range topic.partitions {
					r.advance(topic, i)
				}
			}
		}
		for _, c := range w.clients {
			if c.feed == nil {
				w.connect(c)
			}
			if c.feed != nil {
				c.feed.sub.unsettle()
				if err := c.feed.deliver(w.t.Context()); err != nil {
					w.t.Errorf("in the calm: %v", err)
				}
			}
		}
	}
	var wrong []string
	for i, c := range w.clients {
		w.disconnect(c)
		for _, text := range w.verify(c) {
			wrong = append(wrong, fmt.Sprintf("client %d (%s): %s", i, c.user, text))
		}
	}
	return wrong
}

// verify compares the client's events with the log: each record of its user once, in order, or
// covered by a gap; and no incarnation of a topic after another without a word.
func (w *world) verify(c *simClient) []string {
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	seen := make(map[string]bool)
	last := make(map[string]int64)      // by incarnation and partition
	lost := make(map[string][][2]int64) // by topic and partition
	current := make(map[string]byte)    // the incarnation of each topic
	for _, e := range c.events {
		switch e.kind {
		case typeCheckpoint:
			continue
		case typeGap:
			var g toldGap
			if err := json.Unmarshal([]byte(e.data), &g); err != nil {
				complain("gap %s: %v", e.data, err)
			}
			switch g.Reason {
			case consumer.GapRecreated:
				delete(current, g.Source)
			case consumer.GapRetention:
				key := fmt.Sprintf("%s/%d", g.Source, g.Partition)
				lost[key] = append(lost[key], [2]int64{g.From, g.To})
			default:
				complain("gap %s", e.data)
			}
			continue
		}
		var id byte
		var part int
		var offset int64
		if _, err := fmt.Sscanf(e.data, "%d/%d/%d", &id, &part, &offset); err != nil {
			complain("garbled: %s", e.data)
			continue
		}
		if seen[e.data] {
			complain("twice: %s", e.data)
		}
		seen[e.data] = true
		topic := w.past[[16]byte{id}]
		if was, ok := current[topic.name]; ok && was != id {
			complain("%s after incarnation %d without a gap", e.data, was)
		}
		current[topic.name] = id
		key := fmt.Sprintf("%d/%d", id, part)
		if before, ok := last[key]; ok && offset <= before {
			complain("out of order: %s after %d", e.data, before)
		}
		last[key] = offset
		if rec := topic.partitions[part].records[offset]; topic.kind != consumer.Broadcast && rec.user != c.user {
			complain("not for this user: %s", e.data)
		}
	}
	for _, topic := range w.topics { // of those that were deleted Kafka has nothing
		for i, part := range topic.partitions {
			covered := func(offset int64) bool {
				return slices.ContainsFunc(lost[fmt.Sprintf("%s/%d", topic.name, i)], func(g [2]int64) bool { return g[0] <= offset && offset < g[1] })
			}
			for o := range part.records {
				rec := topic.record(part, int64(o))
				if rec == nil || !rec.Broadcast && string(rec.User) != c.user || !c.opened || part.records[o].time <= c.openedAt {
					continue
				}
				if !seen[string(rec.Value)] && !covered(int64(o)) {
					complain("lost: %s", rec.Value)
				}
			}
		}
	}
	return wrong
}

func simulate(t *testing.T, seed uint64, planted string) (wrong []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		wrong = newWorld(t, seed, planted).run()
	})
	return wrong
}

// TestSimulation wants each client to get each of its records once, in order, or be told of the
// loss, over thousands of random histories.
func TestSimulation(t *testing.T) {
	if text := os.Getenv("HERALD_SIMULATION_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range simulate(t, seed, "") {
			t.Error(line)
		}
		return
	}
	seeds := 3000
	if text := os.Getenv("HERALD_SIMULATION_SEEDS"); text != "" {
		var err error
		if seeds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range seeds {
		if wrong := simulate(t, uint64(seed), ""); len(wrong) > 0 {
			t.Fatalf("HERALD_SIMULATION_SEED=%d replays it:\n%s", seed, strings.Join(wrong, "\n"))
		}
	}
}

// TestSimulationFindsPlantedBugs shows that the simulation can fail.
func TestSimulationFindsPlantedBugs(t *testing.T) {
	for _, bug := range []string{"seam one too early", "position before the records", "overflow not noticed", "checkpoint ahead of the queue"} {
		t.Run(bug, func(t *testing.T) {
			for seed := range uint64(2000) {
				if wrong := simulate(t, seed, bug); len(wrong) > 0 {
					t.Logf("found with seed %d: %s", seed, wrong[0])
					return
				}
			}
			t.Error("not found in 2,000 histories")
		})
	}
}
