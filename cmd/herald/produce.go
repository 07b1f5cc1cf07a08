package main

import (
	"context"
	"fmt"

	"herald/consumer"
)

type produceCommand struct {
	Brokers []string        `default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Kafka brokers. Default: ${default}."`
	Topic   *consumer.Route `placeholder:"NAME[,KEY=VALUE…]" help:"Topic as for serve. Default: notifications, or announcements,kind=broadcast without --user."`
	User    string          `placeholder:"NAME" help:"Whom the notification is for. Default: everyone."`
	Type    string          `placeholder:"TYPE" help:"Event type."`
	Value   string          `arg:"" help:"The record's value."`

	EventTypeHeader string `default:"event-type" placeholder:"NAME" help:"Record header for the event type, as the server has it. Default: ${default}."`

	kafkaFlags
}

// Validate implements kong.Validatable.
func (p *produceCommand) Validate() error { return p.check() }

// Run implements the command.
func (p *produceCommand) Run(ctx context.Context) error {
	route := p.Topic
	switch {
	case route == nil && p.User == "":
		route = &consumer.Route{Topic: "announcements", Kind: consumer.Broadcast}
	case route == nil:
		route = &consumer.Route{Topic: "notifications"}
	}
	tlsConfig, mechanism, err := p.security()
	if err != nil {
		return err
	}
	producer := consumer.NewProducer(p.Brokers, tlsConfig, mechanism)
	defer producer.Close()
	pub := publisher{producer: producer, routes: []consumer.Route{*route}, typeHeader: p.EventTypeHeader}
	written, err := pub.write(ctx, notification{user: p.User, eventType: p.Type, value: []byte(p.Value)})
	if err != nil {
		return err
	}
	fmt.Printf("topic=%s partition=%d offset=%d\n", written.Topic, written.ID, written.Offset)
	return nil
}
