package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/auth"
	"herald/cmd/herald/demo"
	"herald/consumer"
)

type serveCommand struct {
	listeners
	Brokers        []string `required:"" help:"Kafka brokers, host:port."`
	Topic          []string `required:"" sep:"none" placeholder:"NAME[,key=value…]" help:"A topic to serve; repeatable. notifications (the record key is the user), notifications.{user} (one topic a user), announcements,kind=broadcast (for everyone); user=header:NAME takes the user from a header."`
	Group          string   `default:"herald" help:"Consumer group; a replica's is GROUP.REPLICA."`
	Replica        string   `help:"Name of this replica. Default: the host's name."`
	JWTSecretFile  string   `name:"jwt-secret-file" help:"File with the secret (32 bytes or more) of HS256 tokens."`
	InsecureNoAuth bool     `help:"No authentication: ?user= names the user."`
	EnablePublish  bool     `help:"Serve POST /users/{user}/notifications and POST /broadcast."`
}

// Run implements the command.
func (s *serveCommand) Run(ctx context.Context) error {
	set := settings{listeners: s.listeners, Brokers: s.Brokers, Group: s.Group, Replica: s.Replica, Publish: s.EnablePublish}
	switch {
	case s.InsecureNoAuth == (s.JWTSecretFile != ""):
		return errors.New("say how users are authenticated: either --jwt-secret-file or --insecure-no-auth")
	case s.InsecureNoAuth:
		set.Auth = auth.Insecure{}
	default:
		j, err := auth.LoadJWT(s.JWTSecretFile)
		if err != nil {
			return err
		}
		set.Auth = j
	}
	for _, text := range s.Topic {
		r, err := consumer.ParseRoute(text)
		if err != nil {
			return err
		}
		set.Routes = append(set.Routes, r)
	}
	if set.Replica == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("no host name: give --replica: %w", err)
		}
		set.Replica = host
	}
	srv, err := newServer(ctx, set)
	if err != nil {
		return err
	}
	return srv.run(ctx)
}

type devCommand struct {
	listeners
	KafkaListen string `default:"127.0.0.1:9092" help:"Address of the in-process Kafka broker."`
	DataDir     string `help:"Keep records here between runs. Default: in memory."`
}

// devRoutes are one of each kind.
var devRoutes = []consumer.Route{
	{Topic: "notifications"},
	{Topic: "notifications.{user}", Kind: consumer.PerUser},
	{Topic: "announcements", Kind: consumer.Broadcast},
}

// Run implements the command.
func (d *devCommand) Run(ctx context.Context) error {
	_, port, err := net.SplitHostPort(d.KafkaListen)
	if err != nil {
		return fmt.Errorf("--kafka-listen: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("--kafka-listen: port %q is no number", port)
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.Ports(number), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1),
		kfake.SeedTopics(3, "notifications"), kfake.SeedTopics(1, "announcements"),
	}
	if d.DataDir != "" {
		opts = append(opts, kfake.DataDir(d.DataDir))
	}
	broker, err := kfake.NewCluster(opts...)
	if err != nil {
		return fmt.Errorf("in-process broker: %w: choose another port with --kafka-listen", err)
	}
	defer broker.Close()
	var page *demo.Demo
	srv, err := newServer(ctx, settings{
		listeners: d.listeners, Brokers: broker.ListenAddrs(), Group: "herald", Replica: "dev", Routes: devRoutes,
		Auth: auth.Insecure{}, Publish: true,
		Extend: func(e *echo.Echo, p *publisher) {
			page = demo.New(demoProducer{p}, slog.Default())
			page.Register(e)
		},
	})
	if err != nil {
		return err
	}
	defer page.Close()
	fmt.Printf(`Herald is running; Ctrl-C stops it.

  page       http://%[1]s/
  subscribe  curl -N 'http://%[1]s/events?user=alice'
  produce    echo 'alice:{"text":"hello"}' | kcat -P -b %[2]s -t notifications -K:
             herald produce --brokers %[2]s --user alice '{"text":"hello"}'
  metrics    http://%[3]s/metrics

`, d.Listen, broker.ListenAddrs()[0], d.AdminListen)
	return srv.run(ctx)
}

type produceCommand struct {
	Brokers []string `default:"127.0.0.1:9092" help:"Kafka brokers, host:port."`
	Topic   string   `help:"Topic as for serve. Default: notifications, or announcements,kind=broadcast without --user."`
	User    string   `help:"Whom the notification is for. Default: everyone."`
	Type    string   `help:"Event type."`
	Value   string   `arg:"" help:"The record's value."`
}

// Run implements the command.
func (p *produceCommand) Run(ctx context.Context) error {
	if p.Topic == "" {
		p.Topic = "notifications"
		if p.User == "" {
			p.Topic = "announcements,kind=broadcast"
		}
	}
	route, err := consumer.ParseRoute(p.Topic)
	if err != nil {
		return err
	}
	producer := consumer.NewProducer(p.Brokers, nil, nil)
	defer producer.Close()
	pub := publisher{producer: producer, routes: []consumer.Route{route}}
	pos, err := pub.write(ctx, p.User, p.Type, "", []byte(p.Value))
	if err != nil {
		return err
	}
	fmt.Printf("topic=%s partition=%d offset=%d\n", pos.Topic, pos.ID, pos.Offset)
	return nil
}

type tokenCommand struct {
	JWTSecretFile string        `name:"jwt-secret-file" help:"File with the secret."`
	NewSecret     string        `placeholder:"FILE" help:"Write a fresh secret to this file, which must not exist, and print no token."`
	User          string        `help:"Whom the token is for."`
	Publish       bool          `help:"Allow publishing."`
	TTL           time.Duration `name:"ttl" default:"1h" help:"How long the token is valid."`
}

// Run implements the command.
func (t *tokenCommand) Run() error {
	if t.NewSecret != "" {
		return auth.WriteSecretFile(t.NewSecret)
	}
	if t.JWTSecretFile == "" || t.User == "" {
		return errors.New("a token needs --jwt-secret-file and --user; --new-secret FILE makes a secret")
	}
	j, err := auth.LoadJWT(t.JWTSecretFile)
	if err != nil {
		return err
	}
	token, err := j.Sign(auth.Identity{User: t.User, Expires: time.Now().Add(t.TTL), Publish: t.Publish})
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}
