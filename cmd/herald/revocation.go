package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"herald/auth"
	"herald/consumer"
	"herald/stream"
)

// errUnread says that the topic of revocations has more than was read.
var errUnread = errors.New("revocations are not read yet")

// Between looks at how far the topic is read: while it is being read, while it cannot be, and once it is.
const (
	unreadPoll  = 20 * time.Millisecond
	problemPoll = 250 * time.Millisecond
	readPoll    = 5 * time.Second
)

// revocations reads the topic of revocations: all of it when the server starts, and then what comes. It
// is a [consumer.Sink] of a consumer of its own.
type revocations struct {
	*auth.Revocations
	topic    string
	consumer *consumer.Consumer
	streams  *stream.Handler
	log      *slog.Logger
	errors   *prometheus.CounterVec
	begun    chan struct{} // a partition is new

	mu         sync.Mutex
	ctx        context.Context //nolint:containedctx // of run
	wg         sync.WaitGroup
	topicID    [16]byte   // the topic that is read
	gone       [][16]byte // those before it, which count until this one is read
	partitions map[consumer.Partition]*revocationPartition
	problem    error // why the topic is not read; nil: it is
}

// revocationPartition is how far a partition is read.
type revocationPartition struct {
	topicID [16]byte
	past    bool  // what was there before it was read live is read
	live    int64 // read live up to here
	until   int64 // its end when that was asked for; below 0: it was not
}

// newRevocations returns a reader of the topic on the cluster of cfg, whose routes are those of streams.
func newRevocations(known *auth.Revocations, topic string, cfg consumer.Config, log *slog.Logger) (*revocations, error) {
	if err := checkRevocationTopic(topic, cfg.Routes); err != nil {
		return nil, usageError{err}
	}
	r := &revocations{
		Revocations: known, topic: topic, log: log, begun: make(chan struct{}, 1), problem: errUnread,
		partitions: make(map[consumer.Partition]*revocationPartition),
		errors:     counterVec("herald_revocation_errors_total", "Revocations that were not taken, by reason: unreadable, invalid or gap.", "reason", "unreadable", "invalid", "gap"),
	}
	if cfg.Registry != nil {
		cfg.Registry.MustRegister(r.errors, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "herald_revocations", Help: "Users and tokens that are revoked."}, func() float64 { return float64(r.Len()) },
		))
	}
	cfg.Group += ".revocations"
	cfg.Routes = []consumer.Route{{Topic: topic, Kind: consumer.Broadcast}}
	cfg.Logger, cfg.Registry = log, nil
	var err error
	r.consumer, err = consumer.New(cfg, r)
	return r, err
}

// checkRevocationTopic refuses a topic that streams show or that notifications are written to: whoever
// may publish could take tokens back, and make them good again.
func checkRevocationTopic(topic string, routes []consumer.Route) error {
	if err := consumer.CheckRoutes([]consumer.Route{{Topic: topic, Kind: consumer.Broadcast}}); err != nil {
		return err
	}
	for _, r := range routes {
		prefix, suffix, perUser := strings.Cut(r.Topic, "{user}")
		fits := perUser && len(topic) > len(prefix)+len(suffix) && strings.HasPrefix(topic, prefix) && strings.HasSuffix(topic, suffix)
		if fits || r.Topic == topic {
			return fmt.Errorf("%s is read for users by --topic %s: revocations need a topic that no user can read or write", topic, r.Topic)
		}
	}
	return nil
}

// run reads until ctx ends. streams are ended as their tokens are revoked.
func (r *revocations) run(ctx context.Context, streams *stream.Handler) error {
	r.mu.Lock()
	r.ctx, r.streams = ctx, streams
	r.mu.Unlock()
	r.wg.Go(func() { r.watch(ctx) })
	err := r.consumer.Run(ctx)
	r.wg.Wait()
	return err
}

// watch tells when all that the topic has was read, and forgets then what one of that name had before.
func (r *revocations) watch(ctx context.Context) {
	for {
		r.mu.Lock()
		topicID := r.topicID
		r.mu.Unlock()
		err := r.unread(ctx)
		wait := problemPoll
		switch {
		case err == nil:
			wait = readPoll
			r.read(topicID)
		case errors.Is(err, errUnread):
			wait = unreadPoll
		}
		r.mu.Lock()
		if !errors.Is(err, errUnread) || !r.IsComplete() { // new partitions take a moment
			r.problem = err
		}
		r.mu.Unlock()
		select {
		case <-time.After(wait):
		case <-r.begun:
		case <-ctx.Done():
			return
		}
	}
}

// unread returns why not all that the topic has was read; nil if it was.
func (r *revocations) unread(ctx context.Context) error {
	if err := r.consumer.Ready(); err != nil { // first: it is ready once all partitions have begun
		return err
	}
	if r.consumer.Denied(r.topic) {
		return fmt.Errorf("topic %s may not be read: give our Kafka user the operations READ and DESCRIBE on it", r.topic)
	}
	first, err := r.consumer.Starts(ctx, r.consumer.UserTopics(""))
	if err != nil {
		return fmt.Errorf("topic %s: %w", r.topic, err)
	}
	if len(first) == 0 {
		return fmt.Errorf("topic %s does not exist: create it, with cleanup.policy=compact, or correct --revocation-topic", r.topic)
	}
	for p := range first {
		if err := r.unreadIn(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// unreadIn is [revocations.unread] of one partition. A topic that came after the server did is read live
// from its start, so that is waited for too.
func (r *revocations) unreadIn(ctx context.Context, p consumer.Partition) error {
	r.mu.Lock()
	part := r.partitions[p]
	if part == nil || !part.past {
		r.mu.Unlock()
		return errUnread
	}
	topicID, asked := part.topicID, part.until >= 0
	r.mu.Unlock()
	var end int64
	if !asked {
		var err error
		if _, end, err = r.consumer.Range(ctx, p, topicID); err != nil {
			return fmt.Errorf("partition %s: %w", p, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !asked {
		part.until = end
	}
	if part.live < part.until {
		return errUnread
	}
	return nil
}

// read notes that all of the topic was read.
func (r *revocations) read(topicID [16]byte) {
	if !r.IsComplete() {
		r.MarkComplete()
		r.log.Info("revocations are read", "topic", r.topic, "revoked", r.Len())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if topicID != r.topicID {
		return
	}
	for _, id := range r.gone {
		r.ForgetTopic(id)
	}
	r.gone = nil
}

// ready returns why revocations are not known, or not those that come.
func (r *revocations) ready() error {
	err := r.consumer.Ready()
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		err = r.problem
	}
	if err != nil && !errors.Is(err, errUnread) {
		return fmt.Errorf("revocations: %w", err)
	}
	return err
}
