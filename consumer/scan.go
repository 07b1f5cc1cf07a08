package consumer

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"herald/consumer/userrate"
)

// longRange is the most offsets of a short range. Passes for long ranges are separate from passes for short
// ranges, so that a client that missed a week does not delay clients that missed some minutes. Reading this many
// records mostly takes less than a second.
const longRange = 200_000

// turnChunks is how many chunks, of up to 1 MiB, a pass reads before a pass over another log gets the slot.
const turnChunks = 32

// When most clients of a replica return at once, a storm, some arrive too late for the current pass. The next
// pass first waits for more clients if it would read from Kafka again. It begins when no request has arrived for
// as long as the last pass took, but at least calm. So two passes serve a storm, or three passes if the first clients had
// missed less than the others. This also holds on a slow machine, where the clients arrive with pauses. The price:
// requests that the last pass has gone past wait while others arrive, and then for about as long as reading the records
// again takes.
//
// If clients return all the time, requests never stop. So the wait ends after gatherFactor times the duration of the last
// pass (at least calm), and after patience at the latest. While patience does not shorten the wait, a zone reads records
// again for at most an eleventh of the time. A storm that lasts longer than that wait causes further passes.
const (
	calm         = 250 * time.Millisecond
	gatherFactor = 10
	patience     = 5 * time.Second
)

// cachedRest says how long a zone rests before a pass that reads from memory: this many times the duration of the
// last pass, but at most calm. Without the rest, each of the clients that return one after another causes a pass.
const cachedRest = 4

// logID names one log: a partition of one incarnation of a topic.
type logID struct {
	Partition
	topicID [16]byte
}

// rangeLength says whether a request wants a short or a long range of a log, see [longRange]. Short and long
// ranges have slots of their own.
type rangeLength int

const (
	short rangeLength = iota
	long
)

// zone names the requests that share passes: all short or all long ranges of a log.
type zone struct {
	logID
	length rangeLength
}

// scans serves the parts of replays that are older than the tail. Each zone has at most one pass over its log at
// a time, which serves all requests of the zone. A request that arrives during a pass joins the pass if the pass
// has not yet gone past the request's position. The other requests wait for the next pass, which begins at the
// lowest of their positions. So all requests that arrive during one pass cause one further pass, however many
// they are.
type scans struct {
	fetcher  *chunkFetcher
	metrics  *metrics
	log      *slog.Logger
	waiters  *waiters
	decoders map[string]*decoder // as liveReader.decoders

	wg    sync.WaitGroup
	slots [2]chan struct{}  // by rangeLength: one element for each pass that reads
	costs *userrate.Limiter // what passes have read for each user, in bytes

	// The constants above, except in tests.
	longRange  int64
	turnChunks int
	calm       time.Duration
	patience   time.Duration

	failureLogged atomic.Int64 // the Unix second of the last log line about a failed replay
	leftOutLogged atomic.Int64 // the Unix second of the last log line about records left out
}

func newScans(fetcher *chunkFetcher, concurrency, ratePerUser int, m *metrics, log *slog.Logger) *scans {
	longSlots := max(1, concurrency/4)
	return &scans{
		fetcher:    fetcher,
		metrics:    m,
		log:        log,
		waiters:    newWaiters(),
		slots:      [...]chan struct{}{short: make(chan struct{}, max(1, concurrency-longSlots)), long: make(chan struct{}, longSlots)},
		costs:      userrate.New(float64(ratePerUser), ratePerUser*costBurst),
		longRange:  longRange,
		turnChunks: turnChunks,
		calm:       calm,
		patience:   patience,
	}
}

// start accepts requests until ctx ends.
func (s *scans) start(ctx context.Context) {
	s.waiters.open(ctx)
}

// addRequest adds the request to its zone, and starts the zone's goroutine if there is none.
func (s *scans) addRequest(l logID, route *Route, r *rangeRequest) {
	z := zone{l, short}
	if r.until-r.Next > s.longRange {
		z.length = long
	}
	err := s.waiters.add(z, r, func(ctx context.Context) { s.wg.Go(newPass(ctx, s, z, route).run) })
	if err != nil {
		r.fail(err)
	}
}

// recordFailure counts an error of Kafka, and logs it at most once a second for all replays. It ignores errors
// after ctx has ended.
func (s *scans) recordFailure(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	s.metrics.errors.WithLabelValues(errorReplay).Inc()
	if mayLog(&s.failureLogged, time.Second) {
		s.log.Warn("replay failed; retrying", "error", err)
	}
}

// recordUnreadable counts records that a replay leaves out, and logs them at most once a second for all
// replays.
func (s *scans) recordUnreadable(bad *UnreadableError) {
	s.metrics.errors.WithLabelValues(errorUnreadable).Inc()
	if mayLog(&s.leftOutLogged, time.Second) {
		logUnreadable(s.log, bad)
	}
}
