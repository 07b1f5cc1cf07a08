package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"herald/auth"
	"herald/cmd/herald/visible"
	"herald/consumer"
)

// revokeCommand has no environment variables for the revocation: HERALD_TOPIC is a setting of serve and
// HERALD_USER a setting of tail.
type revokeCommand struct {
	Brokers []string  `default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Kafka brokers to connect to first. Default: ${default}."`
	Topic   string    `env:"-" placeholder:"NAME" help:"Topic of the revocations, the same as serve's --revocation-topic. Required."`
	User    string    `env:"-" placeholder:"NAME" help:"User whose tokens to revoke. Give either --user or --token-id. Default: none."`
	TokenID string    `env:"-" name:"token-id" placeholder:"ID" help:"Id of the token to revoke, its claim jti. Give either --user or --token-id. Default: none."`
	Before  time.Time `env:"-" placeholder:"TIME" help:"Revoke tokens that were issued before this time, like 2026-01-31T08:00:00Z, or less than 30 s after it. Default: now."`
	Undo    bool      `env:"-" help:"Cancel the revocation. Default: revoke."`

	kafkaFlags
}

// Help implements kong.HelpProvider.
func (*revokeCommand) Help() string {
	return `Example:

    herald revoke --topic revocations --user alice
    herald revoke --topic revocations --token-id 4f1c --undo

Within a second, every replica that can read the topic refuses the revoked tokens and ends the streams that were opened with one of them. The reason of the end is "revoked". A replica that cannot read the topic does so as soon as it can read it again; until then its /readyz reports the problem.

Because clocks differ, replicas also refuse tokens that were issued less than 30 s after the time. Tokens that are issued later are valid: first make the issuer refuse new tokens for the user.

The topic must exist. Create it with cleanup.policy=compact, so that Kafka keeps the last record of each key. The key of a record is user:NAME or token:ID. Its value is the time; a null value cancels the revocation. Do not add partitions to the topic: the records of one key could then be in two partitions, and after Kafka has removed a null value (delete.retention.ms), a replica that starts would apply the cancelled revocation again.`
}

// Validate implements kong.Validatable.
func (r *revokeCommand) Validate() error {
	var m missing
	m.add(r.Topic != "", "--topic (the topic of the revocations, serve's --revocation-topic, such as revocations)")
	m.add(r.User != "" || r.TokenID != "", "one of --user and --token-id (whose tokens, or which token, such as --user alice)")
	if err := m.err(); err != nil {
		return err
	}
	if r.User != "" && r.TokenID != "" {
		return errors.New("--user and --token-id exclude each other")
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
	kafka, err := r.connection(ctx)
	if err != nil {
		return err
	}
	producer := consumer.NewProducer(r.Brokers, kafka.tls, kafka.sasl)
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
	fmt.Println(r.outcome())
	if err := producer.CheckCompacted(ctx, r.Topic); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "herald revoke: revocations will be lost:", err)
	}
	return nil
}

// outcome says what the written record does.
func (r *revokeCommand) outcome() string {
	what, which := "the tokens of user "+visible.Text(r.User), "that were issued"
	if r.TokenID != "" {
		what, which = "token "+visible.Text(r.TokenID)+",", "if it was issued"
	}
	if r.Undo {
		return "The revocation of " + what + " is cancelled: within a second, replicas accept what it refused."
	}
	from := r.Before.Add(auth.DefaultLeeway).UTC().Format(time.RFC3339)
	return fmt.Sprintf("Revoked: %s %s before %s (the time of the revocation and %v, because clocks differ). Within a second, replicas refuse them and end their streams. New tokens are accepted from then on.",
		what, which, from, auth.DefaultLeeway)
}
