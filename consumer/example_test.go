package consumer_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/consumer"
)

func ExampleParseRoute() {
	for _, text := range []string{
		"notifications,partitioner=murmur2",
		"orders,user=json:/owner/id",
		"notifications.{user}",
		"announcements,kind=broadcast",
	} {
		route, err := consumer.ParseRoute(text)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %s\n", route.Topic, route.Kind)
	}

	route, _ := consumer.ParseRoute("notifications.{user}")
	fmt.Println(route.TopicFor("alice"))

	_, err := consumer.ParseRoute("orders,kind=private")
	fmt.Println(err)

	// Output:
	// notifications: shared
	// orders: shared
	// notifications.{user}: per-user
	// announcements: broadcast
	// notifications.alice
	// topic "orders,kind=private": kind "private": want shared, per-user or broadcast
}

// newExampleConsumer starts an in-process broker with the topic orders, writes three records to it, an hour apart,
// and runs a consumer of the topic. stop ends the consumer and the broker.
func newExampleConsumer(ctx context.Context, first time.Time) (c *consumer.Consumer, topicID [16]byte, stop func(), err error) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	if err != nil {
		return nil, topicID, nil, err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...))
	if err != nil {
		broker.Close()
		return nil, topicID, nil, err
	}
	defer client.Close()
	for i, user := range []string{"alice", "bob", "alice"} {
		r := &kgo.Record{Topic: "orders", Key: []byte(user), Value: fmt.Append(nil, "order ", i), Timestamp: first.Add(time.Duration(i) * time.Hour)}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			broker.Close()
			return nil, topicID, nil, err
		}
	}
	sink := idSink{began: make(chan [16]byte, 1)}
	c, err = consumer.New(consumer.Config{
		Brokers: broker.ListenAddrs(),
		Group:   "example",
		Replica: "one",
		Routes:  []consumer.Route{{Topic: "orders"}},
		Logger:  slog.New(slog.DiscardHandler),
	}, sink)
	if err != nil {
		broker.Close()
		return nil, topicID, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			panic(err) // the in-process broker is always supported
		}
		broker.Close()
	}
	return c, <-sink.began, stop, nil
}

// idSink is a Sink that sends the id of the topic when the consumer begins to read it.
type idSink struct{ began chan [16]byte }

func (s idSink) Begin(_ consumer.Partition, topicID [16]byte, _ int64) { s.began <- topicID }
func (idSink) Deliver(consumer.Partition, []consumer.Record, int64)    {}
func (idSink) Gap(consumer.Partition, consumer.Gap)                    {}
func (idSink) End(consumer.Partition)                                  {}

func ExampleConsumer_Since() {
	ctx := context.Background()
	first := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	c, _, stop, err := newExampleConsumer(ctx, first)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()

	p := consumer.Partition{Topic: "orders", ID: 0}
	for _, after := range []time.Duration{0, 90 * time.Minute, 3 * time.Hour} {
		offsets, err := c.Since(ctx, []consumer.Partition{p}, first.Add(after))
		if err != nil {
			fmt.Println(err)
			return
		}
		if offsets[p] == consumer.AfterAll {
			fmt.Println("all records are older")
			continue
		}
		fmt.Println("offset", offsets[p])
	}

	// Output:
	// offset 0
	// offset 2
	// all records are older
}

func ExampleConsumer_Replay() {
	ctx := context.Background()
	c, topicID, stop, err := newExampleConsumer(ctx, time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()

	ranges := []consumer.Range{{Partition: consumer.Partition{Topic: "orders", ID: 0}, TopicID: topicID, Next: 0, To: 3}}
	c.Replay(ctx, "alice", ranges, func(_ *consumer.Range, r *consumer.Record) bool {
		fmt.Printf("%d: %s\n", r.Offset, r.Value)
		return true
	})
	fmt.Println("continue from", ranges[0].Next, "error", ranges[0].Err)

	// Output:
	// 0: order 0
	// 2: order 2
	// continue from 3 error <nil>
}
