package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"herald/auth"
	"herald/consumer"
)

// revokeCommand has no variables of its own: HERALD_USER is not for it.
type revokeCommand struct {
	Brokers []string  `default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Kafka brokers to begin with. Default: ${default}."`
	Topic   string    `env:"-" required:"" placeholder:"NAME" help:"The topic that serve has as --revocation-topic."`
	User    string    `env:"-" placeholder:"NAME" help:"Revoke all tokens of this user."`
	TokenID string    `env:"-" name:"token-id" placeholder:"ID" help:"Revoke the token with this claim jti."`
	Before  time.Time `env:"-" placeholder:"TIME" help:"Revoke tokens issued before this time, like 2026-01-31T08:00:00Z, or in the 30 s after it. Default: now."`
	Undo    bool      `env:"-" help:"Take the revocation back."`

	kafkaFlags
}

// Help implements kong.HelpProvider.
func (*revokeCommand) Help() string {
	return `Example:

    herald revoke --topic revocations --user alice
    herald revoke --topic revocations --token-id 4f1c --undo

All replicas that can read the topic end the streams that were opened with such a token within a second, with the reason "revoked", and refuse it. One that cannot does so once it can; its /readyz says so meanwhile.

Clocks differ, so a token is refused too that was issued less than 30 s after the time. One that is issued later is good again: have the issuer refuse new ones first.

The topic must exist; make it compacted (cleanup.policy=compact), so that what is in it is kept. A record's key is user:NAME or token:ID, its value the time; a null value takes it back. Do not add partitions to it: a key may be in another one then, and what is taken back there counts again for replicas that start after Kafka has removed the null value (delete.retention.ms).`
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
	m := consumer.Message{Topic: r.Topic, Existing: true, Key: []byte(auth.RevocationKey(r.User, r.TokenID))}
	if !r.Undo {
		if r.Before.IsZero() {
			r.Before = time.Now()
		}
		m.Value = r.Before.UTC().AppendFormat(nil, time.RFC3339Nano)
	}
	written, err := producer.Produce(ctx, m)
	if errors.Is(err, consumer.ErrNoTopic) {
		return fmt.Errorf("topic %s does not exist: correct --topic, or create it with cleanup.policy=compact", r.Topic)
	}
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	fmt.Printf("topic=%s partition=%d offset=%d\n", written.Topic, written.ID, written.Offset)
	return nil
}
