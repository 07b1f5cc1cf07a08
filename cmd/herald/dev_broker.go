package main

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"

	"herald/cmd/herald/listener"
	"herald/consumer"
)

// broker starts the in-process broker. public is the address for its clients; the server uses the broker's own.
func (d *devCommand) broker(ctx context.Context) (broker *kfake.Cluster, public string, err error) {
	l, public, err := d.listenKafka(ctx)
	if err != nil {
		return nil, "", err
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return l, nil }),
	}
	for _, r := range d.routes() {
		switch r.Kind {
		case consumer.Shared:
			opts = append(opts, kfake.SeedTopics(3, r.Topic))
		case consumer.Broadcast:
			opts = append(opts, kfake.SeedTopics(1, r.Topic))
		case consumer.PerUser: // the broker creates a user's topic with its first record
		}
	}
	if d.DataDir != "" {
		opts = append(opts, kfake.DataDir(d.DataDir))
	}
	broker, err = kfake.NewCluster(opts...)
	if err != nil {
		_ = l.Close()
		return nil, "", fmt.Errorf("in-process broker: %w", err)
	}
	return broker, public, nil
}

// listenKafka returns the broker's listener and the address for clients.
func (d *devCommand) listenKafka(ctx context.Context) (l net.Listener, public string, err error) {
	l, err = listener.Listen(ctx, d.KafkaListen)
	if err != nil {
		return nil, "", fmt.Errorf("--kafka-listen %w", err)
	}
	if d.KafkaAdvertise == "" {
		return l, l.Addr().String(), nil
	}
	own, err := listener.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		_ = l.Close()
		return nil, "", fmt.Errorf("in-process broker: %w", err)
	}
	host, text, _ := net.SplitHostPort(d.KafkaAdvertise)
	port, _ := strconv.ParseInt(text, 10, 32) // Validate has checked it
	return newAdvertiser(own, l, host, int32(port)), d.KafkaAdvertise, nil
}
