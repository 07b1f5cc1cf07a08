package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"herald/auth"
	"herald/consumer"
)

// produceCommand has no environment variables for the notification: HERALD_TOPIC is a setting of serve
// and HERALD_USER a setting of tail.
type produceCommand struct {
	Brokers []string        `default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Kafka brokers to connect to first. Default: ${default}."`
	Topic   *consumer.Route `env:"-" placeholder:"NAME[,KEY=VALUE…]" help:"Topic to write to, in the form of serve's --topic. Default: notifications, or announcements,kind=broadcast without --user."`
	User    *string         `env:"-" placeholder:"NAME" help:"User who gets the notification. Default: everyone."`
	Type    string          `env:"-" placeholder:"TYPE" help:"Type of the event. Default: none; the event then has the type message."`
	Value   string          `arg:"" verbatim:"" help:"Value of the record."`

	EventTypeHeader string `default:"event-type" placeholder:"NAME" help:"Record header that holds the event type. It must be the server's --event-type-header. Default: ${default}."`

	kafkaFlags
}

// Help implements kong.HelpProvider.
func (*produceCommand) Help() string {
	return `Example:

    herald produce --user alice '{"text":"hello"}'
    herald produce --topic 'notifications.{user}' --user alice --type greeting hello

If the topic does not exist, a cluster with auto.create.topics.enable creates it. Standard error then says so, because the name may be misspelt.`
}

// Validate implements kong.Validatable.
func (p *produceCommand) Validate() error {
	if p.User != nil {
		if *p.User == "" {
			return errors.New("--user is empty: name a user, or leave --user out to write to everyone")
		}
		if err := auth.CheckUser(*p.User); err != nil {
			return fmt.Errorf("--user: %w", err)
		}
	}
	if err := p.checkRoute(); err != nil {
		return err
	}
	if err := checkBrokers(p.Brokers); err != nil {
		return err
	}
	return p.check()
}

// checkRoute returns an error if the topic cannot hold a notification for the user.
func (p *produceCommand) checkRoute() error {
	route := p.route()
	switch {
	case p.User == nil && route.Kind == consumer.Shared && route.UserHeader != "":
		return fmt.Errorf("topic %s has the user in the record header %s: add --user", route.Topic, route.UserHeader)
	case route.UserPointer != "":
		return fmt.Errorf("topic %s has the user in the value: write to it as its other producers do, or give --topic %[1]s,kind=broadcast without --user to write the value unchanged", route.Topic)
	case p.User == nil && route.Kind == consumer.Shared:
		return fmt.Errorf("topic %s is keyed by user: add --user", route.Topic)
	case p.User == nil && route.Kind == consumer.PerUser:
		return fmt.Errorf("topic %s has the user in its name: add --user", route.Topic)
	case p.User != nil && route.Kind == consumer.Broadcast:
		return fmt.Errorf("topic %s is for everyone: leave --user out", route.Topic)
	case p.User != nil && route.Kind == consumer.PerUser:
		own := consumer.Route{Topic: route.TopicFor(*p.User)}
		if err := consumer.CheckRoutes([]consumer.Route{own}); err != nil {
			return fmt.Errorf("--user %q: %w", *p.User, err)
		}
	}
	return nil
}

// route returns the route of the notification.
func (p *produceCommand) route() consumer.Route {
	switch {
	case p.Topic != nil:
		return *p.Topic
	case p.User == nil:
		return consumer.Route{Topic: "announcements", Kind: consumer.Broadcast}
	default:
		return consumer.Route{Topic: "notifications"}
	}
}

// Run implements the command.
func (p *produceCommand) Run(ctx context.Context) error {
	tlsConfig, mechanism, err := p.security()
	if err != nil {
		return err
	}
	producer := consumer.NewProducer(p.Brokers, tlsConfig, mechanism)
	defer producer.Close()
	user := ""
	if p.User != nil {
		user = *p.User
	}
	m, ok := consumer.MessageFor([]consumer.Route{p.route()}, user)
	if !ok {
		return errors.New("no topic takes this notification")
	}
	m.Value = []byte(p.Value)
	if p.Type != "" {
		m.Headers = append(m.Headers, consumer.Header{Key: p.EventTypeHeader, Value: []byte(p.Type)})
	}
	written, err := producer.Produce(ctx, m)
	if err != nil {
		return p.explain(err)
	}
	if written.Created {
		_, _ = fmt.Fprintf(os.Stderr, "herald produce: topic %s did not exist: it was created, partitions: %d\n", written.Topic, written.Partitions)
	}
	fmt.Printf("topic=%s partition=%d offset=%d\n", written.Topic, written.ID, written.Offset)
	return nil
}

// explain says what to do about the most frequent errors.
func (p *produceCommand) explain(err error) error {
	if errors.Is(err, consumer.ErrNoTopic) {
		return fmt.Errorf("%w, and the cluster does not create it: correct --topic, or create the topic", err)
	}
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "dial" {
		return err
	}
	reason := op.Err
	if call, ok := errors.AsType[*os.SyscallError](reason); ok {
		reason = call.Err // the name of the system call helps nobody
	}
	return fmt.Errorf("no Kafka broker answers at %s: %w", strings.Join(p.Brokers, ", "), reason)
}
