package consumer

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// farBehind is how many offsets before its end a replay is far: it is scanned apart from the near
// ones, so that whoever comes back after a week does not delay those who were away for a second. It is
// more than a busy partition gets in the minutes that a reconnect storm lasts, so that a storm is
// scanned together, and less than a second's reading mostly.
const farBehind = 200_000

// turnChunks is how many chunks, of 1 MiB at most, are read before another scan gets the slot.
const turnChunks = 32

// Before a pass over what was read a moment ago and memory does not hold, it is waited until nobody has
// come for as long as the last pass took, calm at least, but no longer than patience: so the storm that
// most of a replica's clients make is served by two passes, or three where those who came first were
// ahead of the others, also on a machine that is so slow that clients come with pauses. The price is
// that those who were passed wait as long as others go on coming, and then at most for about as long as
// to read again takes.
const (
	calm     = 250 * time.Millisecond
	patience = 5 * time.Second
)

// logID names one logID: a partition of one incarnation of a topic.
type logID struct {
	Partition
	topicID [16]byte
}

// distance is whether a replay is near or far. They are scanned apart, in slots and with memory of their own.
type distance int

const (
	near distance = iota
	far
)

// other is far for near and near for far.
func (d distance) other() distance { return far - d }

// zone says which replays of a log are scanned together.
type zone struct {
	logID
	distance
}

// scans serves the replays: for each zone one pass over the log at a time, with all who wait for it.
// Those who come while a pass is on join it if it has not passed them. The others wait for the next
// one, which begins with the lowest of them: they wait for less than what they want to be read
// themselves, and all who come during one pass have what it reads read once more, however many they are.
type scans struct {
	consumer *Consumer
	ctx      context.Context //nolint:containedctx // the life of the goroutines that add starts, not a request's
	wg       sync.WaitGroup
	slots    [2]chan struct{} // by distance: how many passes read at a time

	// But for tests these are the constants, and nobody is told what was read from Kafka.
	farBehind  int64
	turnChunks int
	calm       time.Duration
	patience   time.Duration
	fetched    func(zone, *chunk)

	mu      sync.Mutex
	waiting map[zone][]*rangeRequest // with a key for each zone that has a goroutine
}

func newScans(c *Consumer) *scans {
	few := max(1, c.cfg.ReplayConcurrency/4)
	return &scans{
		consumer:   c,
		slots:      [...]chan struct{}{near: make(chan struct{}, max(1, c.cfg.ReplayConcurrency-few)), far: make(chan struct{}, few)},
		farBehind:  farBehind,
		turnChunks: turnChunks,
		calm:       calm,
		patience:   patience,
		fetched:    func(zone, *chunk) {},
		waiting:    make(map[zone][]*rangeRequest),
	}
}

// start lets requests in until ctx ends.
func (s *scans) start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx = ctx
}

// add has the request served.
func (s *scans) add(l logID, route *Route, r *rangeRequest) {
	z := zone{l, near}
	if r.to-r.Next > s.farBehind {
		z.distance = far
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil {
		r.fail(errors.New("the consumer does not run"))
		return
	}
	_, runs := s.waiting[z]
	s.waiting[z] = append(s.waiting[z], r)
	if !runs {
		p := &pass{zone: z, consumer: s.consumer, scans: s, route: route, owner: route.owner(z.Topic), source: newChunkReader(s.consumer, z), low: math.MaxInt64}
		s.wg.Go(func() {
			for more := true; more; {
				more = p.turn()
			}
		})
	}
}

// replayFailed counts an error of a replay that is Kafka's, and logs it, but at most once a second
// for all of them.
func (c *Consumer) replayFailed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.metrics.errors.WithLabelValues("replay").Inc()
	if onceASecond(&c.replayLogged) {
		c.log.Warn("replay; it is tried again", "error", err)
	}
}

// onceASecond says whether a line may be logged that was logged last at the Unix time.
func onceASecond(logged *atomic.Int64) bool {
	now, last := time.Now().Unix(), logged.Load()
	return now > last && logged.CompareAndSwap(last, now)
}
