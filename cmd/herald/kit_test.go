package main

import (
	"bytes"
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"herald/cmd/herald/server"
	"herald/consumer"
)

// start runs the program until it ends by itself. It may run for a minute.
func start(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	code = run(ctx, args, &out)
	if ctx.Err() != nil {
		t.Fatalf("herald %q still ran after a minute", args)
	}
	return code, out.String()
}

// taken returns an address on which a listener is open.
func taken(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// with returns args and more in a new slice.
func with(args []string, more ...string) []string { return slices.Concat(args, more) }

// startServer runs a server of the routes on an in-process broker, without authentication, and waits
// until it is ready. The changes apply to its configuration.
func startServer(t *testing.T, routes []consumer.Route, changes ...func(*server.Config)) (*server.Server, *kfake.Cluster) {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1),
		kfake.SeedTopics(3, "notifications"), kfake.SeedTopics(1, "announcements"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	cfg := server.DefaultConfig()
	cfg.Listen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Consumer = consumer.Config{Brokers: broker.ListenAddrs(), Group: "test", Replica: "one", Routes: routes}
	cfg.InsecureNoAuth, cfg.EnablePublish, cfg.PublishRate = true, true, 0
	for _, change := range changes {
		change(&cfg)
	}
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); srv.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(srv.Ready())
		}
	}
	return srv, broker
}
