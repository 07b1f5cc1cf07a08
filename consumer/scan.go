package consumer

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// farBehind is the length, in offsets, from which a range is far behind. Far ranges are scanned apart from
// near ones, so that a client that comes back after a week does not delay clients that were away for some
// minutes. Reading this many records mostly takes less than a second.
const farBehind = 200_000

// turnChunks is how many chunks, of up to 1 MiB, one scan reads before another scan gets the slot.
const turnChunks = 32

// A pass that would read again records that the last pass has read, and that memory does not hold, first
// waits for other requests. It waits until no request has come for as long as the last pass took, but at
// least calm and at most patience. So two passes serve the storm that most clients of a replica make, or
// three passes if the first clients were ahead of the others. That also holds on a machine so slow that the
// clients come with pauses. The price: requests that the last pass has gone past wait while others arrive, and then for
// at most about as long as reading again takes.
const (
	calm     = 250 * time.Millisecond
	patience = 5 * time.Second
)

// cachedRest is how many times as long as the last pass took a zone rests before a pass that reads from memory, but
// at most calm. While clients come back one after the other, each of them would cause a pass.
const cachedRest = 4

// logID names one log: a partition of one incarnation of a topic.
type logID struct {
	Partition
	topicID [16]byte
}

// distance says whether a request is near or far behind. Near and far requests have slots of their own.
type distance int

const (
	near distance = iota
	far
)

// zone says which requests of a log are scanned together.
type zone struct {
	logID
	distance
}

// scans serves the parts of replays that are older than the tail. Each zone has one pass over its log at a
// time, which serves all requests of the zone. A request that arrives during a pass joins it if the pass has
// not yet gone past the request's position. The other requests wait for the next pass, which begins at the
// lowest position among them. So a request waits for at most about as long as reading its own range takes,
// and all requests that arrive during one pass cause one further pass, however many they are.
type scans struct {
	fetcher *chunkFetcher
	metrics *metrics
	log     *slog.Logger
	waiters *waiters

	ctx   context.Context //nolint:containedctx // the life of the goroutines that addRequest starts, not a request's
	wg    sync.WaitGroup
	slots [2]chan struct{} // by distance: one element for each pass that reads

	// The constants above, except in tests.
	farBehind  int64
	turnChunks int
	calm       time.Duration
	patience   time.Duration

	failureLogged, leftOutLogged atomic.Int64 // the Unix second of the last log line about a failed replay, or about records left out
}

func newScans(fetcher *chunkFetcher, concurrency int, m *metrics, log *slog.Logger) *scans {
	few := max(1, concurrency/4)
	return &scans{
		fetcher:    fetcher,
		metrics:    m,
		log:        log,
		waiters:    newWaiters(),
		slots:      [...]chan struct{}{near: make(chan struct{}, max(1, concurrency-few)), far: make(chan struct{}, few)},
		farBehind:  farBehind,
		turnChunks: turnChunks,
		calm:       calm,
		patience:   patience,
	}
}

// start accepts requests until ctx ends.
func (s *scans) start(ctx context.Context) {
	s.ctx = ctx
	s.waiters.open(ctx)
}

// addRequest adds the request to its zone, and starts the zone's goroutine if there is none.
func (s *scans) addRequest(l logID, route *Route, r *rangeRequest) {
	z := zone{l, near}
	if r.to-r.Next > s.farBehind {
		z.distance = far
	}
	err := s.waiters.add(z, r, func() {
		p := &pass{zone: z, scans: s, route: route, owner: route.owner(z.Topic), chunks: newChunkReader(s.fetcher, z), low: math.MaxInt64}
		s.wg.Go(p.run)
	})
	if err != nil {
		r.fail(err)
	}
}

// recordFailure counts an error of Kafka, and logs it at most once a second for all replays.
func (s *scans) recordFailure(err error) {
	if s.ctx.Err() != nil {
		return
	}
	s.metrics.errors.WithLabelValues(errorReplay).Inc()
	if onceASecond(&s.failureLogged) {
		s.log.Warn("replay failed; retrying", "error", err)
	}
}

// recordUnreadable counts records that a replay leaves out, and logs them at most once a second for all
// replays.
func (s *scans) recordUnreadable(bad *UnreadableError) {
	s.metrics.errors.WithLabelValues(errorUnreadable).Inc()
	if onceASecond(&s.leftOutLogged) {
		logUnreadable(s.log, bad)
	}
}

// onceASecond reports whether a line may be logged. logged holds the Unix second of the last line.
func onceASecond(logged *atomic.Int64) bool {
	now, last := time.Now().Unix(), logged.Load()
	return now > last && logged.CompareAndSwap(last, now)
}
