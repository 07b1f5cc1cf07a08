package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// dialers is how many connections are made at a time. A connection is made in far less time than the
// server takes for the first event.
const dialers = 16

// perStalledUser is how many stalled streams a user has.
const perStalledUser = 10

// run measures one server with one set of streams.
type run struct {
	cfg     Config
	to      endpoint
	id      uint64
	streams []*client // the stalled streams are last
	shards  []*shard
	network network
	from    []net.IP
	users   []string // by source; the users of stalled streams are last
	sent    []uint64 // by source: records written; only the writer changes it

	queue  chan *client    // streams that are waiting to be opened
	slots  atomic.Value    // chan struct{}; its capacity is the most streams being opened at a time
	pace   *time.Ticker    // a tick lets one stream open; nil: no limit
	ctx    context.Context //nolint:containedctx // all goroutines end with it
	cancel context.CancelCauseFunc
	// interrupted ends when the user ends the measurement. Records under way are still waited for.
	interrupted context.Context //nolint:containedctx // likewise
	done        sync.WaitGroup
	closed      sync.Once

	held    atomic.Int64 // stalled streams that have begun
	readyAt atomic.Int64 // when the last stream began (Unix time, ns)
	retried sync.Map     // an error's text → *atomic.Int64, the number of connections tried again
	total   results      // of all phases
	stage   atomic.Value // a string: what the run does now, for the progress lines
}

// newRun prepares the streams. It does not open them.
func newRun(ctx context.Context, cfg Config) (r *run, err error) {
	to, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	count := cfg.Streams + cfg.Stalled
	r = &run{cfg: cfg, to: to, id: uint64(rand.Uint32()), from: cfg.sources(to.address), total: newResults(), queue: make(chan *client, count)} //nolint:gosec // only distinguishes runs
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			r.cancel(err)
		}
	}()
	for range max(1, runtime.GOMAXPROCS(0)/2) { // the other half of the cores is for the server and the producer
		r.shards = append(r.shards, &shard{run: r, results: newResults()})
	}
	if err := r.addStreams(); err != nil {
		return nil, err
	}
	if to.url.Scheme == "http" && !cfg.goroutines {
		r.network, err = newEpoll(to.address, r.shards, r.streams)
	}
	switch {
	case err != nil && !errors.Is(err, errors.ErrUnsupported):
		return nil, err
	case r.network == nil:
		n := &sockets{address: to.address.String(), streams: r.streams}
		if to.url.Scheme == "https" {
			n.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: to.url.Hostname(), NextProtos: []string{"http/1.1"}}
		}
		r.network = n
	}
	r.slots.Store(make(chan struct{}, cfg.OpenAtOnce))
	if cfg.OpenRate > 0 {
		r.pace = time.NewTicker(time.Second / time.Duration(cfg.OpenRate))
	}
	for i := range dialers {
		r.done.Go(func() { r.dial(i) })
	}
	return r, nil
}

// addStreams creates the streams of all users.
func (r *run) addStreams() error {
	for i := range r.cfg.Streams + r.cfg.Stalled {
		s := &client{shard: r.shards[i%len(r.shards)], index: i, retry: defaultRetry}
		user := i / r.cfg.PerUser
		name := r.cfg.Prefix + strconv.Itoa(user)
		if s.stalled = i >= r.cfg.Streams; s.stalled {
			user = (i - r.cfg.Streams) / perStalledUser
			name = r.cfg.Prefix + "stalled-" + strconv.Itoa(user)
			user += r.readers()
		}
		if !r.cfg.Broadcast {
			s.source = user
		}
		if len(r.users) == 0 || r.users[len(r.users)-1] != name {
			r.users = append(r.users, name)
		}
		if err := r.setUser(s, name); err != nil {
			return err
		}
		r.streams = append(r.streams, s)
	}
	r.sent = make([]uint64, len(r.users))
	return nil
}

// readers returns how many users have streams that are not stalled.
func (r *run) readers() int { return (r.cfg.Streams + r.cfg.PerUser - 1) / r.cfg.PerUser }

// sources returns how many sequences of records are written for the streams that are not stalled.
func (r *run) sources() int {
	if r.cfg.Broadcast {
		return 1
	}
	return r.readers()
}

// setUser puts the user's token or name in the stream's request.
func (r *run) setUser(s *client, user string) (err error) {
	u := *r.to.url
	if r.cfg.Token != nil {
		s.bearer, err = r.cfg.Token(user)
	} else {
		query := u.Query()
		query.Set("user", user)
		u.RawQuery = query.Encode()
	}
	s.target = (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}).RequestURI()
	return err
}

// fail ends the run with an error.
func (r *run) fail(err error) { r.cancel(err) }

// dial opens streams until the run ends.
func (r *run) dial(turn int) {
	for {
		select {
		case <-r.ctx.Done():
			return
		case s := <-r.queue:
			source := r.from[turn%len(r.from)]
			turn++
			if err := r.open(s, source); err != nil {
				if r.ctx.Err() != nil {
					return
				}
				r.handleDialError(s, err)
			}
		}
	}
}

// open connects a stream when the rate and the number of streams being opened allow it.
func (r *run) open(s *client, source net.IP) error {
	if r.pace != nil {
		select {
		case <-r.pace.C:
		case <-r.ctx.Done():
			return nil
		}
	}
	slots := r.slots.Load().(chan struct{})
	select {
	case slots <- struct{}{}:
	case <-r.ctx.Done():
		return nil
	}
	s.shard.mu.Lock()
	s.slot = slots
	request := s.request(r.to.url.Host)
	s.shard.mu.Unlock()
	return r.network.connect(r.ctx, s, source, request)
}

// handleDialError tries the connection again later, or fails the run.
func (r *run) handleDialError(s *client, err error) {
	hopeless, err := explain(r.to.address.String(), err)
	if hopeless || r.readyAt.Load() == 0 {
		r.fail(err)
		return
	}
	s.shard.mu.Lock()
	s.releaseSlotLocked()
	after := s.retry
	s.shard.mu.Unlock()
	r.openLater(s, after, err.Error())
}

// openLater opens the stream again after a time, and counts the reason.
func (r *run) openLater(s *client, after time.Duration, reason string) {
	n, _ := r.retried.LoadOrStore(reason, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	time.AfterFunc(after, func() {
		select {
		case r.queue <- s:
		case <-r.ctx.Done():
		}
	})
}

// openAll opens the streams and waits until all have begun. It returns how many streams began per
// second. It opens the first stream alone, so that a fault of all streams is reported once, and soon. If that stream
// does not begin, srv may say why.
func (r *run) openAll(srv *server) (perSecond float64, err error) {
	opened := func() int64 { return r.ready() + r.held.Load() }
	start, rest := time.Now(), r.streams
	if r.queue <- rest[0]; len(rest) > 1 {
		if err := r.waitFor(r.interrupted, "the first stream does not begin", opened, 1); err != nil {
			if _, stuck := errors.AsType[*stuckError](err); stuck {
				err = fmt.Errorf("%w%s", err, srv.unready(r.ctx))
			}
			return 0, err
		}
		start, rest = time.Now(), rest[1:]
		for _, s := range rest {
			r.queue <- s
		}
	}
	if err := r.waitFor(r.interrupted, "not all streams begin", opened, int64(len(r.streams))); err != nil {
		return 0, err
	}
	return float64(len(rest)) / time.Unix(0, r.readyAt.Load()).Sub(start).Seconds(), nil
}

// close ends all streams and waits for the run's goroutines.
func (r *run) close() {
	r.closed.Do(func() {
		r.cancel(nil)
		r.done.Wait()
		if r.pace != nil {
			r.pace.Stop()
		}
		r.network.stop()
	})
}
