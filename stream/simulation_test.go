package stream

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"herald/consumer"
)

// The simulation runs real streams in a modelled world. The streams, the hub, the cursors and the ids
// are the production code. The model supplies a Kafka cluster, replicas of Herald that each know a part
// of the cluster, and clients. One random source decides every event, also between two steps of one
// stream, so a seed always replays the same history. At the end the simulation compares the events of
// each client with the log.
//
// HERALD_SIMULATION_SEEDS sets the number of seeds; HERALD_SIMULATION_SEED runs a single seed.

// logRecord is one record of the model's log. A hole in the log (compaction, a control record) is a
// record without a value.
type logRecord struct {
	user  string
	value string // no other record has it
	null  bool   // it is a tombstone: it has no value, and the model's value is its key
	time  int    // when the record was appended, counted in events of the world

	count   int  // the number of partitions that its producer knew; 0: the record is misplaced, or the topic has no partitioner
	current bool // the topic had that number of partitions when the record was written
}

// logPartition is a partition of the model's cluster.
type logPartition struct {
	start   int64
	records []logRecord // by offset
	cuts    int         // number of unclean elections
	kept    int         // after an unclean election: records before this offset were never lost
	most    int64       // the largest number of records that the log ever held
}

type logTopic struct {
	world      *world
	name       string
	kind       consumer.Kind
	id         [16]byte // zero: the topic does not exist
	partitions []*logPartition

	claim       string
	partitioner consumer.Partitioner
	counts      []grown // the history of its number of partitions
}

// world holds the cluster, the replicas and the clients.
type world struct {
	t        *testing.T
	random   *rand.Rand
	planted  string
	topics   []*logTopic
	past     map[[16]byte]*logTopic // all topics by id, deleted ones included
	replicas []*replica
	clients  []*simClient
	now      int
	ids      byte
	wrong    []string // violations found while the world runs
	claims   bool     // there are topics with claims
	calm     bool     // no new faults happen, so that everything settles
	depth    int

	limits    Limits
	values    map[string]logRecord // each record by its value, also if the log has lost it
	delivered map[place]int64      // committed delivered positions of users' own topics
	serving   *simClient           // the client whose stream is running
}

// largeInModel is the length from which the model treats an event as large. Records from offset 10 on
// reach it, which is about half of all records.
const largeInModel = len("1/0/10")

func newWorld(t *testing.T, seed uint64, planted string) *world {
	t.Helper()
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 1)), planted: planted, past: make(map[[16]byte]*logTopic), values: make(map[string]logRecord), delivered: make(map[place]int64)}
	if w.random.IntN(4) == 0 {
		w.limits.Records = 1 + w.random.Int64N(8)
	}
	for _, topic := range w.addClaims([]*logTopic{
		{name: "shared", kind: consumer.Shared},
		{name: "all", kind: consumer.Broadcast},
		{name: "own.alice", kind: consumer.PerUser},
		{name: "own.bob", kind: consumer.PerUser},
		{name: "homes", kind: consumer.Shared, partitioner: consumer.Murmur2},
	}) {
		topic.world = w
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

// arrive adds a client without an event id.
func (w *world) arrive() {
	c := &simClient{
		user: []string{"alice", "bob"}[w.random.IntN(2)], unseen: w.random.IntN(3) == 0, polls: w.random.IntN(3) == 0,
		shape:    w.chooseShape(),
		promised: make(map[place]int), reach: make(map[string]int64), from: make(map[place]int64), read: make(map[place]int64),
	}
	if !c.unseen && w.random.IntN(2) == 0 {
		c.since = 1 + w.random.IntN(w.now+1)
	}
	w.clients = append(w.clients, c)
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

func (w *world) topic(name string) *logTopic {
	return w.topics[slices.IndexFunc(w.topics, func(t *logTopic) bool { return t.name == name })]
}

func (w *world) fails() bool { return !w.calm && w.random.IntN(20) == 0 }

// interlude makes random events happen in the middle of a stream's step.
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

// happen makes one random event happen to the cluster or to a replica.
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
	case n == 97 && exists:
		w.cut(topic)
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
		if topic.claim != "" {
			rec.user = ownerNames[w.random.IntN(len(ownerNames))]
		}
		if topic.partitioner != "" {
			w.place(topic, &rec, &i)
		}
		rec.value, rec.null = topic.value(i), w.random.IntN(8) == 0
		w.values[rec.value] = rec
	}
	part := topic.partitions[i]
	part.records = append(part.records, rec)
	part.most = max(part.most, int64(len(part.records)))
}

// run runs the world, lets it settle, and verifies the events that each client received.
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
		if c.stream != nil && (c.body.limit >= 0 || c.polls) {
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
			if c.stream == nil {
				w.connect(c)
			}
			if c.stream != nil {
				c.stream.sub.requestCatchUp()
				w.serve(c)
				w.collect(c)
			}
		}
	}
	var wrong []string
	for i, c := range w.clients {
		if c.stream == nil && !c.polls {
			wrong = append(wrong, fmt.Sprintf("client %d was cut in the calm", i))
			continue
		}
		if c.stream != nil {
			if !c.polls && !c.stream.catchUp.metLive {
				wrong = append(wrong, fmt.Sprintf("client %d is not told that replay has met live", i))
			}
			w.disconnect(c)
		}
		for _, text := range w.verify(c, w.now) {
			wrong = append(wrong, fmt.Sprintf("client %d (%s): %s", i, c.user, text))
		}
	}
	return append(w.wrong, wrong...)
}

func simulate(t *testing.T, seed uint64, planted string) (wrong []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		wrong = newWorld(t, seed, planted).run()
	})
	return wrong
}

// TestSimulation checks over thousands of random histories that each client gets each of its records
// once and in order, or a gap event for the records it lost.
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

// TestSimulationFindsPlantedBugs shows that the simulation finds known bugs.
func TestSimulationFindsPlantedBugs(t *testing.T) {
	for _, bug := range []string{
		"seam one too early", "replay begins one too early", "gap too long", "delivered too far", "position before the records", "overflow not noticed", "checkpoint ahead of the queue",
		"a new home begins where the replica is", "only the last home counts", "what is misplaced comes", "homes at their start are not in ids", "rest of a write forgotten",
		"large event forgotten", "what is sought is not in ids", "since one too late",
		"an old position is current", "current later than the seam",
		"the hub takes a value for a user", "the hub takes a team for a room", "the replay takes a value for a user", "the replay knows one value",
		"the tail forgets a batch", "the tail serves another incarnation", "the tail has a hole",
		"what cannot be decoded comes", "what cannot be decoded yet is a gap",
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
