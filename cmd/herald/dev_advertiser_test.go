package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestAdvertisedAddress makes two connections to the in-process broker with --kafka-advertise. A client in a container
// must learn only the advertised address. The server in the same process must learn only the broker's own address.
func TestAdvertisedAddress(t *testing.T) {
	const advertised = "kafka.example:4711"
	dev := &devCommand{KafkaListen: "127.0.0.1:0", KafkaAdvertise: advertised}
	var outer string
	var broker *kfake.Cluster
	for broker == nil {
		l, public, err := dev.listenKafka(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if public != advertised {
			t.Errorf("%s for clients, want %s", public, advertised)
		}
		outer = l.(*advertiser).outer.Addr().String()
		_ = l.Close() // so that the broker gets the port, which the test now knows
		dev.KafkaListen = outer
		broker, _, err = dev.broker(t.Context())
		if errors.Is(err, syscall.EADDRINUSE) { // another program was faster
			dev.KafkaListen = "127.0.0.1:0"
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	defer broker.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	var mu sync.Mutex
	dialled := make(map[string]bool)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(advertised), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("notifications"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			mu.Lock()
			dialled[address] = true
			mu.Unlock()
			return new(net.Dialer).DialContext(ctx, network, outer)
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	value := bytes.Repeat([]byte("x"), 200_000) // more than one read of a socket
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "notifications", Value: value}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if records := client.PollRecords(ctx, 1).Records(); len(records) != 1 || !bytes.Equal(records[0].Value, value) {
		t.Errorf("%d records, want the one that was written", len(records))
	}
	described, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, client)
	if err != nil || len(described.Brokers) != 1 || described.Brokers[0].Host != "kafka.example" || described.Brokers[0].Port != 4711 {
		t.Errorf("the cluster is %v, %v", described, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(dialled) != 1 || !dialled[advertised] {
		t.Errorf("the client connects to %v, want %s", dialled, advertised)
	}

	server, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	metadata, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, server)
	if err != nil || len(metadata.Brokers) != 1 || metadata.Brokers[0].Host != "127.0.0.1" || metadata.Brokers[0].Port == 4711 {
		t.Errorf("the server is told %v, %v, want the broker's own address", metadata, err)
	}
}
