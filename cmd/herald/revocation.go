package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"herald/auth"
	"herald/consumer"
	"herald/stream"
)

// revocations reads the topic of revocations: all of it when the server starts, and then what comes. It
// is a [consumer.Sink] of a consumer of its own.
type revocations struct {
	*auth.Revocations
	consumer *consumer.Consumer
	streams  *stream.Handler
	log      *slog.Logger

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // of run
	wg      sync.WaitGroup
	reading int // partitions whose past is being read
}

// newRevocations returns a reader of the topic on the cluster of cfg.
func newRevocations(known *auth.Revocations, topic string, cfg consumer.Config, log *slog.Logger) (*revocations, error) {
	r := &revocations{Revocations: known, log: log}
	cfg.Group += ".revocations"
	cfg.Routes = []consumer.Route{{Topic: topic, Kind: consumer.Broadcast}}
	cfg.Logger, cfg.Registry = log, nil
	var err error
	r.consumer, err = consumer.New(cfg, r)
	return r, err
}

// run reads until ctx ends. streams are ended as their tokens are revoked.
func (r *revocations) run(ctx context.Context, streams *stream.Handler) error {
	r.mu.Lock()
	r.ctx, r.streams = ctx, streams
	r.mu.Unlock()
	r.wg.Go(func() { r.awaitComplete(ctx) })
	err := r.consumer.Run(ctx)
	r.wg.Wait()
	return err
}

// awaitComplete waits until all that the topic has was read.
func (r *revocations) awaitComplete(ctx context.Context) {
	for {
		r.mu.Lock()
		reading := r.reading
		r.mu.Unlock()
		if reading == 0 && r.consumer.Ready() == nil {
			r.Complete()
			r.log.Info("revocations are read")
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// Begin implements [consumer.Sink].
func (r *revocations) Begin(p consumer.Partition, topicID [16]byte, next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reading++
	ctx := r.ctx
	r.wg.Go(func() {
		r.past(ctx, consumer.Range{Partition: p, TopicID: topicID, To: next})
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reading--
	})
}

// past reads what a partition has before it is read live.
func (r *revocations) past(ctx context.Context, left consumer.Range) {
	for {
		ranges := []consumer.Range{left}
		r.consumer.Replay(ctx, "", ranges, func(_ *consumer.Range, rec *consumer.Record) bool {
			r.set(left.Partition, rec)
			return true
		})
		left = ranges[0]
		err := left.Err
		left.Err = nil
		lost, outOfRange := errors.AsType[*consumer.OutOfRangeError](err)
		bad, unreadable := errors.AsType[*consumer.UnreadableError](err)
		switch {
		case outOfRange && left.Next < lost.Start: // deleted by now
			left.Next = lost.Start
			continue
		case unreadable:
			r.log.Error("revocations cannot be read", "partition", left.String(), "error", bad)
			left.Next = bad.Next
			continue
		case err == nil, errors.Is(err, consumer.ErrRecreated), outOfRange: // another Begin comes
			r.endStreams()
			return
		}
		r.log.Warn("revocations are not read yet; it is tried again", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}

func (r *revocations) set(p consumer.Partition, rec *consumer.Record) {
	if err := r.Set(string(rec.Key), rec.Value, rec.Offset); err != nil {
		r.log.Error("a record is no revocation", "topic", p.Topic, "partition", p.ID, "offset", rec.Offset, "error", err)
	}
}

// Deliver implements [consumer.Sink].
func (r *revocations) Deliver(p consumer.Partition, records []consumer.Record, _ int64) {
	for i := range records {
		r.set(p, &records[i])
	}
	if len(records) > 0 {
		r.endStreams()
	}
}

// endStreams ends those whose tokens hold no more.
func (r *revocations) endStreams() {
	r.mu.Lock()
	streams := r.streams
	r.mu.Unlock()
	streams.End(stream.ErrRevoked, func(v stream.Viewer) bool { return r.Revoked(v.User, v.TokenID, v.IssuedAt) })
}

// Gap implements [consumer.Sink].
func (r *revocations) Gap(p consumer.Partition, gap consumer.Gap) {
	r.log.Error("revocations are lost", "topic", p.Topic, "partition", p.ID, "from", gap.From, "to", gap.To, "reason", gap.Reason)
}

// End implements [consumer.Sink].
func (r *revocations) End(consumer.Partition) {}

// revokeCommand has no variables of its own: HERALD_USER is not for it.
type revokeCommand struct {
	Brokers []string  `default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Kafka brokers to begin with. Default: ${default}."`
	Topic   string    `env:"-" required:"" placeholder:"NAME" help:"The topic that serve has as --revocation-topic."`
	User    string    `env:"-" placeholder:"NAME" help:"Revoke all tokens of this user."`
	TokenID string    `env:"-" name:"token-id" placeholder:"ID" help:"Revoke the token with this claim jti."`
	Before  time.Time `env:"-" placeholder:"TIME" help:"Revoke tokens issued before this time, like 2026-01-31T08:00:00Z. Default: now."`
	Undo    bool      `env:"-" help:"Take the revocation back."`

	kafkaFlags
}

// Help implements kong.HelpProvider.
func (*revokeCommand) Help() string {
	return `Example:

    herald revoke --topic revocations --user alice
    herald revoke --topic revocations --token-id 4f1c --undo

Within a second all replicas end the streams that were opened with such a token, with the reason "revoked", and refuse it. A token issued later is good again: have the issuer refuse new ones first.

Make the topic compacted (cleanup.policy=compact), so that what is in it is kept. A record's key is user:NAME or token:ID, its value the time; a null value takes it back.`
}

// Validate implements kong.Validatable.
func (r *revokeCommand) Validate() error {
	if (r.User == "") == (r.TokenID == "") {
		return errors.New("give either --user or --token-id")
	}
	if err := consumer.CheckRoutes([]consumer.Route{{Topic: r.Topic}}); err != nil {
		return fmt.Errorf("--topic: %w", err)
	}
	if err := checkBrokers(r.Brokers); err != nil {
		return err
	}
	return r.check()
}

// Run implements the command.
func (r *revokeCommand) Run(ctx context.Context) error {
	tlsConfig, mechanism, err := r.security()
	if err != nil {
		return err
	}
	producer := consumer.NewProducer(r.Brokers, tlsConfig, mechanism)
	defer producer.Close()
	m := consumer.Message{Topic: r.Topic, Key: []byte(auth.RevocationKey(r.User, r.TokenID))}
	if !r.Undo {
		if r.Before.IsZero() {
			r.Before = time.Now()
		}
		m.Value = r.Before.UTC().AppendFormat(nil, time.RFC3339Nano)
	}
	written, err := producer.Produce(ctx, m)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	fmt.Printf("topic=%s partition=%d offset=%d\n", written.Topic, written.ID, written.Offset)
	return nil
}
