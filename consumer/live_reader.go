package consumer

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"herald/consumer/broker"
	"herald/consumer/logtail"
)

// DefaultSessionPartitions makes fewer than 20 connections suffice for the topics of 5,000 users.
const DefaultSessionPartitions = 300

// fetchBackoff is the longest pause between fetches that fail.
const fetchBackoff = 2 * time.Second

// liveReader reads many partitions live and hands their records to the [Sink]. The partitions of a broker
// are divided into shards. Each shard has a goroutine, a fetch session and a connection of its own.
//
// No lock is held while a request to a broker is under way.
type liveReader struct {
	cluster           *broker.Cluster
	topics            *topicRegistry
	offsets           *offsetFinder
	sink              Sink
	tail              *logtail.Tail
	ownerless         map[string]*ownerlessRecords // by topic
	decoders          map[string]*decoder          // by the topic of the route; the routes without a format have none
	options           fetchOptions
	sessionPartitions int // the most partitions in a shard
	metrics           *metrics
	log               *slog.Logger
	brokerLog         *brokerLog

	// The constants of these names, except in tests.
	stallAfter   time.Duration
	lookBackTime time.Duration

	aheads atomic.Int32    // the number of sessions that fetch ahead
	kept   atomic.Int64    // the bytes of the responses that waiting partitions keep, see maxKeptBytes
	ctx    context.Context //nolint:containedctx // the life of the goroutines that assign starts, not a request's
	wg     sync.WaitGroup

	mu         sync.Mutex
	partitions map[Partition]*livePartition
	shards     map[shardKey][]*shard
}

func newLiveReader(cluster *broker.Cluster, topics *topicRegistry, offsets *offsetFinder, sink Sink, tail *logtail.Tail, options fetchOptions, sessionPartitions int, m *metrics, log *slog.Logger) *liveReader {
	r := &liveReader{
		cluster: cluster, topics: topics, offsets: offsets, sink: sink, tail: tail,
		ownerless: newOwnerlessRecords(topics.routes, m, log),
		options:   options, sessionPartitions: sessionPartitions, metrics: m, log: log,
		stallAfter: stallAfter, lookBackTime: lookBackTime,
		partitions: make(map[Partition]*livePartition),
		shards:     make(map[shardKey][]*shard),
	}
	r.brokerLog = newBrokerLog(log, r.countShards, r.wg.Go)
	return r
}

// start allows partitions to be read until ctx ends.
func (r *liveReader) start(ctx context.Context) {
	r.ctx = ctx
	r.wg.Go(func() { r.watchStalls(ctx) })
}

// beginPartition begins to read a partition. The sink gets the records from next on. The tail also gets the
// records before them, see lookBack.
func (r *liveReader) beginPartition(start *pendingStart, next int64) {
	route := start.topic.route
	first := max(0, next-r.lookBack(start))
	p := &livePartition{
		Partition: start.Partition, route: route, owner: route.owner(start.Topic), topicID: start.topicID,
		tail: r.tail.Begin(first), added: time.Now(), first: first, liveFrom: next, next: first, logEnd: next, moved: time.Now(),
		ownerless: r.ownerless[start.Topic], decoding: r.decoders[route.Topic].of(start.Partition), schemas: newSchemaWait(r.decoders[route.Topic]),
	}
	if route.Where != (Condition{}) {
		p.filtered = r.metrics.filtered.WithLabelValues(route.Topic)
	}
	p.end.Store(endUnknown)
	if start.startAt == broker.LatestOffset {
		p.end.Store(next)
		p.endAt.Store(p.added.UnixNano())
	}
	r.sink.Begin(start.Partition, start.topicID, next)
	r.addPartition(p)
	r.assign(p, start.place)
}

func (r *liveReader) addPartition(p *livePartition) {
	p.follower, p.epochSeen = -1, -1
	r.mu.Lock()
	r.partitions[p.Partition] = p
	r.mu.Unlock()
}

// endTopic stops reading the topic, which had count partitions.
func (r *liveReader) endTopic(name string, count int) {
	for i := range count {
		p := Partition{Topic: name, ID: int32(i)}
		if r.livePartition(p) != nil {
			r.removePartition(p)
			r.sink.End(p)
		}
	}
}

// removePartition stops reading the partition. After it returns, nothing more of the partition is delivered.
func (r *liveReader) removePartition(partition Partition) {
	r.mu.Lock()
	p := r.partitions[partition]
	delete(r.partitions, partition)
	if p != nil {
		r.detachLocked(p)
	}
	r.mu.Unlock()
	if p != nil {
		p.mu.Lock()
		p.closed = true
		p.tail.Restart(-1)
		p.mu.Unlock()
		if p.schemas != nil {
			p.schemas.wake() // ends the wait
		}
	}
}

// assign moves the partition to a shard of its leader, or of the follower that it prefers. With leader -1 the
// partition waits for the next metadata.
func (r *liveReader) assign(p *livePartition, at place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.assignLocked(p, at)
}

func (r *liveReader) assignLocked(p *livePartition, at place) {
	broker := at.leader
	if broker >= 0 && p.follower >= 0 && time.Since(p.preferred) < preferFor {
		broker = p.follower
	}
	if r.partitions[p.Partition] != p || p.awaitsSchemaLocked() {
		return
	}
	if p.shard != nil && p.shard.broker == broker && p.fetchID == at.fetchID {
		if p.epoch != at.epoch {
			p.epoch, p.shard.changed = at.epoch, true
		}
		return
	}
	r.detachLocked(p)
	if p.fetchID != [16]byte{} { // another leader, or another name of the topic
		p.doubt()
	} else if IsLocalID(at.fetchID) {
		p.byName.Store(true)
	}
	p.fetchID, p.epoch = at.fetchID, at.epoch
	if broker < 0 {
		return
	}
	s := r.openShardLocked(shardKey{broker, p.route.Kind == PerUser})
	p.shard = s
	s.partitions[topicIDPartition{p.fetchID, p.ID}] = p
	s.changed, s.joined = true, time.Now()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// openShardLocked returns a shard with room for one more partition. It starts a new one if all are full.
func (r *liveReader) openShardLocked(key shardKey) *shard {
	for _, s := range r.shards[key] {
		if len(s.partitions) < r.sessionPartitions {
			return s
		}
	}
	s := newShard(key)
	r.shards[key] = append(r.shards[key], s)
	r.wg.Go(func() { r.runShard(s) })
	return s
}

// detachLocked takes the partition out of its shard.
func (r *liveReader) detachLocked(p *livePartition) {
	if p.shard != nil {
		delete(p.shard.partitions, topicIDPartition{p.fetchID, p.ID})
		p.shard.changed = true
		p.shard = nil
	}
}

// park takes a partition that answers with errors out of its shard until the next metadata says where to
// read it. In a fetch session such a partition would end every fetch at once.
func (r *liveReader) park(p *livePartition) {
	r.mu.Lock()
	r.detachLocked(p)
	r.mu.Unlock()
	r.topics.doubt(p.Topic)
}

// preferFollower reads the partition from the follower, which the leader says is nearer.
func (r *liveReader) preferFollower(p *livePartition, follower int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.follower, p.preferred = follower, time.Now()
	r.assignLocked(p, place{follower, p.fetchID, p.epoch})
}

// forsakeFollower reads the partition from its leader again. It returns false if the partition has been read
// there all along.
func (r *liveReader) forsakeFollower(p *livePartition) bool {
	r.mu.Lock()
	had := p.follower >= 0
	p.follower = -1
	r.mu.Unlock()
	if had {
		r.park(p)
	}
	return had
}

// livePartition returns the partition; nil if it is not read.
func (r *liveReader) livePartition(p Partition) *livePartition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.partitions[p]
}

// livePartitions returns all partitions that are read.
func (r *liveReader) livePartitions() []*livePartition {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*livePartition, 0, len(r.partitions))
	for _, p := range r.partitions {
		list = append(list, p)
	}
	return list
}

// positions yields each partition that is read and the offset to fetch next.
func (r *liveReader) positions(yield func(Partition, int64) bool) {
	for _, p := range r.livePartitions() {
		next, _ := p.position()
		if !yield(p.Partition, next) {
			return
		}
	}
}

// countByBroker returns how many partitions are read from each broker.
func (r *liveReader) countByBroker() map[int32]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := make(map[int32]int)
	for key, shards := range r.shards {
		for _, s := range shards {
			count[key.broker] += len(s.partitions)
		}
	}
	return count
}

// countShards returns how many sessions and partitions are read from the broker.
func (r *liveReader) countShards(broker int32) (sessions, partitions int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, users := range []bool{false, true} {
		for _, s := range r.shards[shardKey{broker, users}] {
			if len(s.partitions) > 0 {
				sessions++
				partitions += len(s.partitions)
			}
		}
	}
	return sessions, partitions
}

// recordFailure notes that a request to the broker failed. example is a partition that the request was
// about. waiting is the number of partitions that wait to start there.
func (r *liveReader) recordFailure(broker int32, waiting int, example Position, err error) {
	if r.ctx.Err() == nil {
		r.brokerLog.recordFailure(r.ctx, broker, waiting, example, err)
	}
}
