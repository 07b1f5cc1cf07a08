package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kfake"

	"herald/cmd/herald/listener"
	"herald/cmd/herald/server"
	"herald/consumer"
)

type devCommand struct {
	KafkaListen string `default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Address of the in-process Kafka broker; the broker tells its clients to connect to this host. Default: ${default}." group:"Kafka"`
	DataDir     string `placeholder:"DIR" help:"Directory that keeps the records between runs. Default: none; the records are in memory and end with the process." group:"Kafka"`

	serverFlags
}

// Help implements kong.HelpProvider.
func (*devCommand) Help() string {
	return `For trying Herald out and for developing against it: an in-process Kafka broker for any Kafka client, a server that reads from it, and a demo page. Nobody is authenticated and every client may publish, so all listeners are on the loopback interface.

The topics are notifications (keyed by user), notifications.{user} (one for each user) and announcements (for everyone).`
}

// Validate implements kong.Validatable.
func (d *devCommand) Validate() error {
	if err := listener.CheckAddress(d.KafkaListen, "127.0.0.1:9092"); err != nil {
		return fmt.Errorf("--kafka-listen %w", err)
	}
	host, _, _ := net.SplitHostPort(d.KafkaListen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("--kafka-listen %s: name one address: the broker tells its clients to connect to it", d.KafkaListen)
	}
	cfg := d.config()
	return cfg.Validate()
}

// config returns what the flags say, without the broker's address.
func (d *devCommand) config() server.Config {
	cfg := server.DefaultConfig()
	cfg.Consumer = consumer.Config{Group: "herald", Replica: "dev", Routes: devRoutes}
	cfg.InsecureNoAuth, cfg.EnablePublish, cfg.PublishRate, cfg.Demo = true, true, 0, true
	d.apply(&cfg)
	return cfg
}

// devRoutes has one route of each kind.
var devRoutes = []consumer.Route{
	{Topic: "notifications"},
	{Topic: "notifications.{user}", Kind: consumer.PerUser},
	{Topic: "announcements", Kind: consumer.Broadcast},
}

// Run implements the command.
func (d *devCommand) Run(ctx context.Context) error {
	if err := server.CheckFileLimit(); err != nil {
		return err
	}
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	broker, err := d.broker(ctx)
	if err != nil {
		return err
	}
	defer broker.Close()
	cfg := d.config()
	cfg.Logger = d.logger()
	cfg.Consumer.Brokers = broker.ListenAddrs()
	return runServer(ctx, cfg, func(srv *server.Server) { d.printWays(srv, broker.ListenAddrs()[0]) })
}

// printWays prints how to use the server and the broker.
func (d *devCommand) printWays(srv *server.Server, broker string) {
	fmt.Printf(`Herald is running; Ctrl-C stops it. %[5]s

  page       http://%[1]s/
  subscribe  curl -N 'http://%[1]s/events?user=alice'
             %[4]s tail --url http://%[1]s --user alice
  produce    echo 'alice:{"text":"hello"}' | kcat -P -b %[2]s -t notifications -K: -X partitioner=murmur2_random
             %[4]s produce --brokers %[2]s --user alice '{"text":"hello"}'
  metrics    http://%[3]s/metrics

`, srv.Addr(), broker, srv.AdminAddr(), os.Args[0], d.kept())
}

// kept returns a sentence that says where the records are.
func (d *devCommand) kept() string {
	if d.DataDir == "" {
		return "Records are in memory; --data-dir DIR keeps them."
	}
	return "Records are kept in " + d.DataDir + "."
}

// lock keeps other processes from the records, because two brokers would damage them. It creates the
// directory if it does not exist.
func (d *devCommand) lock() (unlock func(), err error) {
	if d.DataDir == "" {
		return func() {}, nil
	}
	if err := checkWritable(d.DataDir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(d.DataDir, ".herald-lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("--data-dir %s is used by another herald dev", d.DataDir)
		}
		return nil, fmt.Errorf("--data-dir %s: lock: %w", d.DataDir, err)
	}
	return func() { _ = f.Close() }, nil
}

// errLocked says that another process has the lock.
var errLocked = errors.New("locked")

// broker starts the in-process broker.
func (d *devCommand) broker(ctx context.Context) (*kfake.Cluster, error) {
	l, err := listener.Listen(ctx, d.KafkaListen)
	if err != nil {
		return nil, fmt.Errorf("--kafka-listen %w", err)
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1),
		kfake.SeedTopics(3, "notifications"), kfake.SeedTopics(1, "announcements"),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return l, nil }),
	}
	if d.DataDir != "" {
		opts = append(opts, kfake.DataDir(d.DataDir))
	}
	broker, err := kfake.NewCluster(opts...)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("in-process broker: %w", err)
	}
	return broker, nil
}

// checkWritable creates the directory, and a file in it, which it removes.
func checkWritable(dir string) error {
	err := os.MkdirAll(dir, 0o750)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".herald-*"); err == nil {
			_ = f.Close()
			err = os.Remove(f.Name())
		}
	}
	if err != nil {
		return fmt.Errorf("--data-dir %s: %w: choose a directory that this user can write to", dir, err)
	}
	return nil
}
