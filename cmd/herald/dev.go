package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/labstack/echo/v4"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/auth"
	"herald/cmd/herald/demo"
	"herald/consumer"
)

type devCommand struct {
	KafkaListen string `default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Address of the in-process Kafka broker; it tells clients to connect to this host. Default: ${default}." group:"Kafka"`
	DataDir     string `placeholder:"DIR" help:"Keep records here between runs. Default: in memory." group:"Kafka"`

	serverFlags
}

// Help implements kong.HelpProvider.
func (*devCommand) Help() string {
	return `For trying Herald out and for developing against it: an in-process Kafka broker to which any Kafka client can produce, the server on it, and a demo page. Nobody is authenticated and everybody may publish, so all listeners are on the loopback interface.

The topics are notifications (keyed by user), notifications.{user} (one a user) and announcements (for everyone).`
}

// Validate implements kong.Validatable.
func (d *devCommand) Validate() error {
	if err := checkListen("kafka-listen", d.KafkaListen, "127.0.0.1:9092"); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(d.KafkaListen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("--kafka-listen %s: name one address: the broker tells its clients to connect to it", d.KafkaListen)
	}
	return d.check()
}

// devRoutes are one of each kind.
var devRoutes = []consumer.Route{
	{Topic: "notifications"},
	{Topic: "notifications.{user}", Kind: consumer.PerUser},
	{Topic: "announcements", Kind: consumer.Broadcast},
}

// Run implements the command.
func (d *devCommand) Run(ctx context.Context) error {
	if err := checkFileLimit(); err != nil {
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
	address := broker.ListenAddrs()[0]
	var page *demo.Demo
	log := d.logger()
	srv, err := newServer(ctx, settings{
		serverFlags: d.serverFlags,
		Consumer:    consumer.Config{Brokers: []string{address}, Group: "herald", Replica: "dev", Routes: devRoutes},
		access:      access{Auth: auth.Insecure{}}, publishFlags: publishFlags{EnablePublish: true, PublishMaxBytes: 1 << 20},
		Extend: func(e *echo.Echo, p *publisher) {
			page = demo.New(demoProducer{p}, nil, log)
			page.Register(e)
		},
	})
	if err != nil {
		return err
	}
	defer page.Close()
	fmt.Printf(`Herald is running; Ctrl-C stops it. %[5]s

  page       http://%[1]s/
  subscribe  curl -N 'http://%[1]s/events?user=alice'
             %[4]s tail --url http://%[1]s --user alice
  produce    echo 'alice:{"text":"hello"}' | kcat -P -b %[2]s -t notifications -K: -X partitioner=murmur2_random
             %[4]s produce --brokers %[2]s --user alice '{"text":"hello"}'
  metrics    http://%[3]s/metrics

`, srv.publicListener.Addr(), address, srv.adminListener.Addr(), os.Args[0], d.kept())
	return srv.run(ctx)
}

// kept says where the records are.
func (d *devCommand) kept() string {
	if d.DataDir == "" {
		return "Records are in memory; --data-dir DIR keeps them."
	}
	return "Records are kept in " + d.DataDir + "."
}

// lock keeps other processes away from the records, which two brokers would spoil. It makes the
// directory if need be.
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
	listener, err := listen(ctx, "kafka-listen", d.KafkaListen)
	if err != nil {
		return nil, err
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1),
		kfake.SeedTopics(3, "notifications"), kfake.SeedTopics(1, "announcements"),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return listener, nil }),
	}
	if d.DataDir != "" {
		opts = append(opts, kfake.DataDir(d.DataDir))
	}
	broker, err := kfake.NewCluster(opts...)
	if err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("in-process broker: %w", err)
	}
	return broker, nil
}

// checkWritable makes the directory and a file in it.
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
