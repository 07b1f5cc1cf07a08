package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"herald/auth"
	"herald/consumer"
	"herald/stream"
)

// Reasons of revocations that were not taken, the values of a label.
const (
	revocationUnreadable = "unreadable"
	revocationInvalid    = "invalid"
	revocationGap        = "gap"
)

// unreadInterval is how often the server looks whether it has read the revocations, to log why not.
const unreadInterval = 2 * time.Second

// revocations keeps the revoked tokens. It is the [consumer.Table] of its own reader, which reads the whole
// topic of revocations when the server starts, and then follows the topic.
type revocations struct {
	*auth.Revocations
	topic   string
	reader  *consumer.TableReader
	streams atomic.Pointer[stream.Handler] // set by run
	log     *slog.Logger
	errors  *prometheus.CounterVec

	mu       sync.Mutex
	users    []string // whose tokens were revoked since Applied was called
	tokenIDs []string // revoked since Applied was called
}

// revocationsGroup follows the prefix of the consumer groups in the name of the group that reads the revocations.
const revocationsGroup = ".revocations"

// Groups returns the names of the consumer groups that a server uses, the one of its notifications first.
func (c *Config) Groups() []string {
	names := c.Consumer.Groups()
	if c.RevocationTopic != "" {
		table := consumer.Config{Group: c.Consumer.Group + revocationsGroup, Replica: c.Consumer.Replica}
		names = append(names, table.Groups()...)
	}
	return names
}

// newRevocations returns a reader of the topic on the cluster of cfg. It registers its metrics with the
// registry of cfg. The caller has called checkRevocationTopic.
func newRevocations(known *auth.Revocations, topic string, cfg consumer.Config, log *slog.Logger) (*revocations, error) {
	r := &revocations{
		Revocations: known, topic: topic, log: log,
		errors: counterVec("herald_revocation_errors_total", "Revocations that were not taken, by reason: unreadable, invalid or gap.", "reason", revocationUnreadable, revocationInvalid, revocationGap),
	}
	cfg.Registry.MustRegister(r.errors, prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "herald_revocations", Help: "Users and tokens that are revoked."}, func() float64 { return float64(r.Len()) },
	))
	cfg.Group += revocationsGroup
	cfg.Logger, cfg.Registry = log.With("reading", "revocations"), nil // both readers log the same lines
	var err error
	r.reader, err = consumer.NewTableReader(cfg, topic, r)
	return r, err
}

// checkRevocationTopic refuses a topic that streams show or that notifications are written to: a user
// with the right to publish could revoke tokens there, and withdraw revocations.
func checkRevocationTopic(topic string, routes []consumer.Route) error {
	if err := consumer.CheckRoutes([]consumer.Route{{Topic: topic, Kind: consumer.Broadcast}}); err != nil {
		return err
	}
	for _, r := range routes {
		if _, users := r.UserOf(topic); users || r.Topic == topic {
			return fmt.Errorf("%s is read for users by --topic %s: revocations need a topic that no user can read or write", topic, r.Topic)
		}
	}
	return nil
}

// run reads until ctx ends. It ends streams whose tokens are revoked.
func (r *revocations) run(ctx context.Context, streams *stream.Handler) error {
	r.streams.Store(streams)
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { r.logUnread(watching) })
	err := r.reader.Run(ctx)
	stop()
	watch.Wait()
	return err
}

// logUnread logs why the revocations are not read yet, until they are read or ctx ends. Until then no token is accepted.
// Then it logs whether Kafka deletes revocations by age.
func (r *revocations) logUnread(ctx context.Context) {
	logged := ""
	for !r.IsComplete() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(unreadInterval):
		}
		if err := r.ready(); err != nil && err.Error() != logged && !r.IsComplete() {
			logged = err.Error()
			r.log.Warn("no token is accepted until the revocations are read", "topic", r.topic, "error", err)
		}
	}
	if err := r.reader.CheckCompacted(ctx); err != nil {
		r.log.Warn("revocations will be lost: their topic is not compacted", "topic", r.topic, "error", err)
	}
}

// ready returns why revocations are not known, or why later ones are not seen; nil if all is well.
func (r *revocations) ready() error {
	err := r.reader.Ready()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, consumer.ErrUnread):
		return errors.New("revocations are not read yet")
	case errors.Is(err, consumer.ErrNoTopic):
		return fmt.Errorf("revocations: topic %s does not exist: create it, with cleanup.policy=compact, or correct --revocation-topic", r.topic)
	default:
		return fmt.Errorf("revocations: %w", err)
	}
}

// loaded returns nil once all revocations have been read, and before that why not.
func (r *revocations) loaded() error {
	if r.IsComplete() {
		return nil
	}
	return r.ready()
}

// Apply implements [consumer.Table].
func (r *revocations) Apply(p consumer.Partition, topicID [16]byte, rec *consumer.Record) {
	at := auth.Place{Topic: topicID, Partition: p.ID, Offset: rec.Offset, Time: rec.Time}
	if err := r.SetRecord(string(rec.Key), rec.Value, at); err != nil {
		r.errors.WithLabelValues(revocationInvalid).Inc()
		r.log.Error("revocation ignored: the record is malformed", "topic", p.Topic, "partition", p.ID, "offset", rec.Offset, "error", err)
		return
	}
	if !r.IsComplete() { // no token was accepted yet, so no stream is open
		return
	}
	user, tokenID, _ := auth.ParseRevocationKey(string(rec.Key))
	r.mu.Lock()
	defer r.mu.Unlock()
	if user != "" {
		r.users = append(r.users, user)
	} else {
		r.tokenIDs = append(r.tokenIDs, tokenID)
	}
}

// Applied implements [consumer.Table]: it ends the streams whose tokens are revoked.
func (r *revocations) Applied() {
	r.mu.Lock()
	users, tokenIDs := r.users, r.tokenIDs
	r.users, r.tokenIDs = nil, nil
	r.mu.Unlock()
	r.streams.Load().EndTokens(stream.ErrRevoked, users, tokenIDs, r.isRevoked)
}

func (r *revocations) isRevoked(v stream.Viewer) bool {
	return r.IsRevoked(v.User, v.TokenID, v.IssuedAt)
}

// Lose implements [consumer.Table].
func (r *revocations) Lose(p consumer.Partition, gap consumer.Gap) {
	reason := revocationGap
	if gap.Reason == consumer.GapUnreadable {
		reason = revocationUnreadable
	}
	r.errors.WithLabelValues(reason).Inc()
	r.log.Error("revocations lost", "topic", p.Topic, "partition", p.ID, "from", gap.From, "to", gap.To, "reason", gap.Reason)
}

// Complete implements [consumer.Table]: from now on tokens are checked.
func (r *revocations) Complete(replaced [][16]byte) {
	if !r.IsComplete() {
		r.MarkComplete()
		r.log.Info("revocations read", "topic", r.topic, "revoked", r.Len())
	}
	for _, id := range replaced {
		r.ForgetTopic(id)
	}
	if len(replaced) > 0 { // a record that was forgotten may have withdrawn a revocation
		r.streams.Load().End(stream.ErrRevoked, r.isRevoked)
	}
}
