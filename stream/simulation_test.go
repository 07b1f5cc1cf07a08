package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
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

	count   int  // by which number of partitions it was put where it is; 0: misplaced, or of no partitioner
	current bool // that was how many there were
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

	partitioner consumer.Partitioner
	counts      []grown // how many partitions it has had
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
	garbled  []string // ids
	calm     bool     // no more faults: everything settles
	depth    int
}

// largeInModel has about half of the model's records make large events: those from offset 10 on.
const largeInModel = len("1/0/10")

// replica is one Herald: how far it has read what it knows of the cluster. It is the Log of its
// streams.
type replica struct {
	*world
	service
	read map[consumer.Partition]int64
	ids  map[string][16]byte

	homes map[string]*consumer.Homes
	short []*consumer.Homes // of a planted bug
	seen  map[string][]int  // the numbers of partitions of the incarnation that it has known
}

// simClient is a client over all its connections.
type simClient struct {
	user     string
	replica  *replica
	feed     *feed
	ready    bool // the feed is to be served
	body     *cutBody
	lastID   string
	opened   bool // it once had a checkpoint: from then on it is promised everything
	openedAt int
	events   []event
	promised map[place]int // since when its ids name homes
}

// cutBody is a response whose client takes a part of what is written, sooner or later the rest, and
// whose connection breaks at some byte.
type cutBody struct {
	world *world
	text  []byte
	limit int // bytes that arrive; -1: all
	ended bool
}

var errBroken = errors.New("broken")

func (c *cutBody) send(b []byte) ([]byte, error) {
	b = b[headroom:]
	n := len(b)
	if c.world.random.IntN(3) == 0 {
		n = c.world.random.IntN(n + 1)
	}
	if err := c.finish(b[:n]); err != nil {
		return nil, err
	}
	if c.world.planted == "rest of a write forgotten" {
		return nil, nil
	}
	return b[n:], nil
}

func (c *cutBody) sendLarge(l *large) ([]byte, error) {
	if c.world.planted == "large event forgotten" {
		return nil, nil
	}
	return c.send(append(make([]byte, headroom), l.text...))
}

func (c *cutBody) finish(b []byte) error {
	c.world.interlude()
	if c.limit >= 0 && len(c.text)+len(b) > c.limit {
		c.text = append(c.text, b[:c.limit-len(c.text)]...)
		return errBroken
	}
	c.text = append(c.text, b...)
	return nil
}

func (c *cutBody) close(bool) { c.ended = true }
func (c *cutBody) cut()       {}

func newWorld(t *testing.T, seed uint64, planted string) *world {
	t.Helper()
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 1)), planted: planted, past: make(map[[16]byte]*logTopic)}
	for _, topic := range []*logTopic{
		{name: "shared", kind: consumer.Shared},
		{name: "all", kind: consumer.Broadcast},
		{name: "own.alice", kind: consumer.PerUser},
		{name: "own.bob", kind: consumer.PerUser},
		{name: "homes", kind: consumer.Shared, partitioner: consumer.Murmur2},
	} {
		w.topics = append(w.topics, topic)
		if w.random.IntN(4) > 0 {
			w.create(topic)
		}
	}
	for range 2 {
		r := &replica{world: w}
		w.replicas = append(w.replicas, r)
		r.start()
	}
	for range 4 {
		w.arrive()
	}
	return w
}

// arrive makes a client that has no id yet.
func (w *world) arrive() {
	w.clients = append(w.clients, &simClient{user: []string{"alice", "bob"}[w.random.IntN(2)], promised: make(map[place]int)})
}

func (w *world) create(topic *logTopic) {
	w.ids++
	topic.id = [16]byte{w.ids}
	topic.partitions = nil
	for range 1 + w.random.IntN(3) {
		topic.partitions = append(topic.partitions, new(logPartition))
	}
	topic.counts = []grown{{len(topic.partitions), w.now}}
	past := *topic
	w.past[topic.id] = &past
}

// start lets the replica begin to read, with nothing of what it knew before.
func (r *replica) start() {
	r.service = service{hub: NewHub("event-type", nil), log: r, heartbeat: time.Minute, life: r.t.Context(), spawn: func(fn func()) { fn() }}
	r.read, r.ids = make(map[consumer.Partition]int64), make(map[string][16]byte)
	r.homes, r.seen = make(map[string]*consumer.Homes), make(map[string][]int)
	r.hub.interleave = r.interlude
	r.hub.larges.least = largeInModel
	for _, topic := range r.topics {
		if topic.partitioner != "" {
			r.homes[topic.name] = consumer.NewHomes(topic.name, topic.partitioner)
		}
		r.learn(topic, false)
	}
}

// learn brings what the replica reads in line with the topic, as the consumer does: partitions that
// come up later are read from their start.
func (r *replica) learn(topic *logTopic, later bool) {
	count := len(topic.partitions)
	if r.homes[topic.name] != nil && topic.id != [16]byte{} {
		if count = r.count(topic); count == 0 {
			return
		}
	}
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
	for i, part := range topic.partitions[:count] {
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
		_, read := r.hub.find(p)
		read.next.Store(end)
		for _, c := range r.clients {
			if c.feed != nil && c.replica == r {
				c.feed.sub.beat()
				r.serve(c)
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
func (r *replica) Join(_ context.Context, user string) ([]consumer.Source, error) {
	r.interlude()
	return []consumer.Source{{Topic: "all"}, {Topic: "homes", Homes: r.homesToJoin("homes")}, {Topic: "own." + user, Own: true}, {Topic: "shared"}}, nil
}

// Leave implements Log.
func (r *replica) Leave(string) {}

// Delivered implements Log.
func (r *replica) Delivered(consumer.Partition, [16]byte, int64) {}

// DeliveredTo implements Log.
func (r *replica) DeliveredTo(context.Context, string) (map[consumer.Partition]int64, error) {
	panic("not modelled")
}

// Since implements Log.
func (r *replica) Since(context.Context, []consumer.Source, time.Time) (map[consumer.Partition]int64, error) {
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

// Replay implements Log: the ranges in any order, a few records of each at a time.
func (r *replica) Replay(ctx context.Context, user string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool) {
	r.interlude()
	left := make([]*consumer.Range, len(ranges))
	for i := range ranges {
		left[i] = &ranges[i]
		if r.planted == "seam one too early" {
			ranges[i].To--
		}
	}
	for len(left) > 0 {
		i := r.random.IntN(len(left))
		over, stopped := r.replay(ctx, left[i], 1+r.random.IntN(10), user, fn)
		if stopped {
			return
		}
		if over {
			left = slices.Delete(left, i, i+1)
		}
	}
}

// replay goes on with one range by so many records.
func (r *replica) replay(ctx context.Context, at *consumer.Range, n int, user string, fn func(*consumer.Range, *consumer.Record) bool) (over, stopped bool) {
	topic := r.topic(at.Topic)
	switch {
	case topic.id != at.TopicID:
		at.Err = consumer.ErrRecreated
	case ctx.Err() != nil:
		at.Err = ctx.Err()
	}
	for ; at.Err == nil && at.Next < at.To && n > 0; n-- {
		part := topic.partitions[at.ID]
		if r.fails() {
			at.Err = errors.New("kafka has no answer")
			break
		}
		if end := int64(len(part.records)); at.Next < part.start || at.Next > end {
			at.Err = &consumer.OutOfRangeError{Position: consumer.Position{Partition: at.Partition, Offset: at.Next}, Start: part.start, End: end}
			break
		}
		rec := topic.record(part, at.Next)
		if rec != nil && (rec.Broadcast || string(rec.User) == user) && !fn(at, rec) {
			return false, true
		}
		if topic.id != at.TopicID { // meanwhile
			at.Err = consumer.ErrRecreated
		}
		at.Next++
	}
	return at.Err != nil || at.Next >= at.To, false
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
		w.append(topic)
	case n < 70 && exists:
		r.advance(topic, w.random.IntN(len(topic.partitions)))
	case n < 85:
		r.learn(topic, true)
	case n < 88 && exists && len(topic.partitions) < 5, n < 90 && topic.partitioner != "" && exists && len(topic.partitions) < 7:
		topic.partitions = append(topic.partitions, new(logPartition))
		w.past[topic.id].partitions = topic.partitions
		topic.counts = append(topic.counts, grown{len(topic.partitions), w.now})
		w.past[topic.id].counts = topic.counts
	case n < 91 && exists:
		part := topic.partitions[w.random.IntN(len(topic.partitions))]
		part.start += int64(w.random.IntN(len(part.records) - int(part.start) + 1))
	case n < 92 && exists:
		topic.id, topic.partitions = [16]byte{}, nil // deleted
	case n < 97 && !exists:
		w.create(topic)
	}
}

func (w *world) append(topic *logTopic) {
	i := w.random.IntN(len(topic.partitions))
	rec := logRecord{time: w.now}
	if w.random.IntN(5) > 0 {
		rec.user = []string{"alice", "bob", "carol"}[w.random.IntN(3)]
		if topic.kind == consumer.PerUser {
			rec.user = strings.TrimPrefix(topic.name, "own.")
		}
		if topic.partitioner != "" {
			w.place(topic, &rec, &i)
		}
		rec.value = fmt.Sprintf("%d/%d/%d", topic.id[0], i, len(topic.partitions[i].records))
	}
	part := topic.partitions[i]
	part.records = append(part.records, rec)
}

// connect opens a stream of the client at some replica.
func (w *world) connect(c *simClient) {
	c.replica = w.replicas[w.random.IntN(len(w.replicas))]
	c.body = &cutBody{world: w, limit: -1}
	if !w.calm && w.random.IntN(2) == 0 {
		c.body.limit = w.random.IntN(2000)
	}
	c.feed = &feed{service: &c.replica.service, out: c.body, closed: func(error) {}, turn: w.random.IntN(10)}
	c.feed.sub = newSubscription(c.user, 64+w.random.IntN(400), func() {}, func() { c.ready = true })
	if w.planted == "overflow not noticed" {
		c.feed.sub.overflow = func() { c.feed.sub.behind = false }
	}
	known := c.replica.homesOf(c.user)
	c.feed.start(request{lastID: c.lastID})
	told := parse(c.body.text).events
	for _, e := range told {
		w.named(c, e.id)
	}
	if !c.opened && len(told) > 0 {
		c.opened, c.openedAt = true, w.now
		for at := range known {
			c.promise(at, w.now)
		}
	}
	w.collect(c)
}

// serve has the client's stream do what there is to do.
func (w *world) serve(c *simClient) {
	if c.ready {
		c.ready = false
		c.feed.quick()
	}
}

// collect takes in what a connection that has ended has brought: the whole events.
func (w *world) collect(c *simClient) {
	if !c.body.ended {
		return
	}
	got := parse(c.body.text)
	if os.Getenv("HERALD_SIMULATION_SEED") != "" {
		w.t.Logf("%p %s asked with %q and got\n%s", c, c.user, c.lastID, c.body.text)
	}
	if n := len(got.events); n > 0 {
		c.events = append(c.events, got.events...)
		c.lastID = got.events[n-1].id
		for _, e := range got.events {
			w.named(c, e.id)
		}
		if w.planted == "homes at their start are not in ids" {
			c.lastID = regexp.MustCompile(`(\.\d+)+(~|$)`).ReplaceAllString(c.lastID, "$2")
		}
	}
	c.feed, c.ready = nil, false
}

// disconnect ends the connection.
func (w *world) disconnect(c *simClient) {
	c.feed.sub.end(errGone)
	w.serve(c)
	w.collect(c)
}

// step lets one client go on a little.
func (w *world) step(c *simClient) {
	if c.feed == nil {
		w.connect(c)
		return
	}
	switch w.random.IntN(10) {
	case 0:
		if !w.calm {
			w.disconnect(c)
			return
		}
	case 1:
		if w.planted == "checkpoint ahead of the queue" {
			c.feed.advance(*c.feed.hub.positions(c.feed.sub.sources))
		}
		if w.random.IntN(2) == 0 {
			c.feed.moved += checkpointAfter // as if the position had moved far
		}
		c.feed.sub.beat()
	default:
		if len(c.feed.waiting) > 0 && w.random.IntN(2) == 0 {
			c.feed.sub.unsettle() // the time to try again
		}
	}
	w.serve(c)
	w.collect(c)
}

// run lets the world run, then settle, and checks what each client has got.
func (w *world) run() []string {
	for range 400 {
		switch n := w.random.IntN(300); {
		case n == 0:
			w.restart(w.replicas[w.random.IntN(len(w.replicas))])
		case n == 1:
			w.arrive()
		case n < 100:
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
				w.serve(c)
				w.collect(c)
			}
		}
	}
	wrong := w.garbled
	for i, c := range w.clients {
		if c.feed == nil {
			wrong = append(wrong, fmt.Sprintf("client %d was cut in the calm", i))
			continue
		}
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
		if topic.partitioner != "" && !topic.wasHome(c.user, part) {
			complain("misplaced: %s", e.data)
		}
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
				if topic.partitioner != "" && !c.due(topic, i, &part.records[o]) {
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
	for _, bug := range []string{
		"seam one too early", "position before the records", "overflow not noticed", "checkpoint ahead of the queue",
		"a new home begins where the replica is", "only the last home counts", "what is misplaced comes", "homes at their start are not in ids", "rest of a write forgotten",
		"large event forgotten",
	} {
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
