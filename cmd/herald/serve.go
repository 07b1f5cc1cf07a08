package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"herald/cmd/herald/demo"
	"herald/consumer"
)

// serverFlags are those of both commands that start a server.
type serverFlags struct {
	Config string `placeholder:"FILE" help:"YAML file with flags' names as keys, such as \"listen: 0.0.0.0:8080\"." group:"Configuration"`

	Listen      string `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address of the public listener; port 0 takes a free one, which the log names. Default: ${default}." group:"Listeners"`
	AdminListen string `default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Address of the admin listener: /livez, /readyz, /metrics. Default: ${default}." group:"Listeners"`

	EventTypeHeader  string        `default:"event-type" placeholder:"NAME" help:"Record header that holds the event type. Default: ${default}." group:"Streams"`
	Heartbeat        time.Duration `default:"15s" placeholder:"DURATION" help:"Time between comments on a quiet stream, which keep proxies from closing it. Default: ${default}." group:"Streams"`
	Retry            time.Duration `default:"2s" placeholder:"DURATION" help:"Reconnection time told to clients, spread by half up and down. Default: ${default}." group:"Streams"`
	WriteTimeout     time.Duration `default:"10s" placeholder:"DURATION" help:"A stream whose client takes nothing for so long is closed. Default: ${default}." group:"Streams"`
	MaxQueueBytes    int           `default:"262144" placeholder:"BYTES" help:"Bytes that wait for one slow stream; what comes beyond is read from Kafka again once the client has caught up. Default: ${default}." group:"Streams"`
	ReplayMaxAge     time.Duration `default:"0s" placeholder:"DURATION" help:"A client that comes back is sent nothing older; it is told what that leaves out. 0: no limit. Default: ${default}." group:"Streams"`
	ReplayMaxRecords int64         `default:"10000000" placeholder:"NUMBER" help:"Most offsets of a partition that are read again for a client that comes back; it is told what that leaves out. 0: no limit. Default: ${default}." group:"Streams"`
	ReplayCacheBytes int           `default:"50331648" placeholder:"BYTES" help:"Memory for what many clients who come back ask for; a quarter of it is for those who are more than 200,000 offsets of a partition behind. Default: ${default}." group:"Streams"`
	DrainWindow      time.Duration `default:"5s" placeholder:"DURATION" help:"After SIGTERM streams end spread over this time, or faster if they are few, but over no more than half of --drain-timeout: so that their clients do not all come to other replicas at once. Default: ${default}." group:"Streams"`
	DrainTimeout     time.Duration `default:"10s" placeholder:"DURATION" help:"How long streams and requests have to end after SIGTERM. Default: ${default}." group:"Streams"`

	admissionFlags

	LogLevel  logLevel `default:"info" placeholder:"LEVEL" help:"Least level that is logged: debug, info, warn or error. Default: ${default}." group:"Log"`
	LogFormat string   `default:"text" enum:"text,json" placeholder:"FORMAT" help:"Format of the log on standard error: text or json. Default: ${default}." group:"Log"`
}

// logLevel is the text of a [slog.Level].
type logLevel slog.Level

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *logLevel) UnmarshalText(text []byte) error {
	if (*slog.Level)(l).UnmarshalText(text) != nil {
		return fmt.Errorf("%q: want debug, info, warn or error", text)
	}
	return nil
}

// check refuses values that no server can work with.
func (s *serverFlags) check() error {
	if err := checkListen("listen", s.Listen, "127.0.0.1:8080"); err != nil {
		return err
	}
	if err := checkListen("admin-listen", s.AdminListen, "127.0.0.1:8081"); err != nil {
		return err
	}
	for _, d := range []struct {
		flag       string
		value      time.Duration
		least, top time.Duration
	}{
		{"heartbeat", s.Heartbeat, time.Second, time.Hour},
		{"retry", s.Retry, 10 * time.Millisecond, time.Hour},
		{"write-timeout", s.WriteTimeout, 100 * time.Millisecond, time.Hour},
		{"drain-timeout", s.DrainTimeout, 0, time.Hour},
		{"drain-window", s.DrainWindow, 0, time.Hour},
		{"replay-max-age", s.ReplayMaxAge, 0, 100 * 365 * 24 * time.Hour},
	} {
		if d.value < d.least || d.value > d.top {
			return fmt.Errorf("--%s=%v: want %v to %v", d.flag, d.value, d.least, d.top)
		}
	}
	if s.MaxQueueBytes < 4<<10 || s.MaxQueueBytes > 1<<30 {
		return fmt.Errorf("--max-queue-bytes=%d: want %d to %d", s.MaxQueueBytes, 4<<10, 1<<30)
	}
	if s.ReplayMaxRecords < 0 {
		return fmt.Errorf("--replay-max-records=%d: want 0 or more", s.ReplayMaxRecords)
	}
	if s.ReplayCacheBytes < 1<<20 || s.ReplayCacheBytes > 1<<36 {
		return fmt.Errorf("--replay-cache-bytes=%d: want %d to %d", s.ReplayCacheBytes, 1<<20, 1<<36)
	}
	if err := s.admissionFlags.check(); err != nil {
		return err
	}
	if s.EventTypeHeader == "" {
		return errors.New("--event-type-header is empty: name the record header that holds the event type")
	}
	return nil
}

func (s *serverFlags) logger() *slog.Logger {
	opts := &slog.HandlerOptions{Level: slog.Level(s.LogLevel)}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

type serveCommand struct {
	Brokers       []string         `required:"" placeholder:"HOST:PORT" help:"Kafka brokers to begin with; the others are found." group:"Kafka"`
	Topic         []consumer.Route `required:"" sep:";" placeholder:"NAME[,KEY=VALUE…]" help:"A topic to serve, see above; repeatable, or several separated by semicolons." group:"Kafka"`
	Group         string           `default:"herald" placeholder:"NAME" help:"Consumer group; that of a replica is GROUP.REPLICA. Default: ${default}." group:"Kafka"`
	Replica       string           `placeholder:"NAME" help:"Name of this replica, unlike all others. Default: the host's name." group:"Kafka"`
	KafkaRack     string           `placeholder:"NAME" help:"Rack of this replica: partitions are read from a broker there where the cluster allows it (KIP-392)." group:"Kafka"`
	FetchMaxBytes int32            `name:"kafka-fetch-max-bytes" default:"8388608" placeholder:"BYTES" help:"Most that a broker answers at a time. Memory holds one answer for each session, and a second one for four of those far behind. Default: ${default}." group:"Kafka"`
	Session       int              `name:"kafka-session-partitions" default:"300" placeholder:"N" help:"Most partitions in a fetch session, which has a connection of its own. With fewer, records of many users' topics arrive sooner, over more connections. Default: ${default}." group:"Kafka"`

	kafkaFlags
	authFlags
	publishFlags
	tlsFlags
	serverFlags
}

// Help implements kong.HelpProvider.
func (*serveCommand) Help() string {
	return `Example:

    herald token --new-secret secret
    herald serve --brokers localhost:9092 --topic notifications --jwt-secret-file secret
    herald token --jwt-secret-file secret --user alice > alice.token
    herald tail --token-file alice.token
    herald produce --user alice '{"text":"hello"}'

Topics. Each --topic says which records belong to whom; all kinds may be mixed:

    notifications                        shared: the record key is the user
    notifications,partitioner=murmur2    the same, and all producers choose the partition by the key as
                                         Kafka's Java client does (murmur2), librdkafka (crc32) or
                                         sarama (fnv1a)
    orders,user=header:owner             shared: the record header "owner" is the user
    orders,user=json:/owner/id           shared: the string there in the value, which is JSON, is the user
    notifications.{user}                 one topic a user, read while that user has a stream open
    announcements,kind=broadcast         for everyone

A topic that does not exist yet is waited for. With a partitioner a user's records are looked for in one partition: event ids are short, and a client that comes back has one partition read again. A record in another partition is left out, counted (herald_kafka_misplaced_records_total) and warned about; so name none unless all producers have it.

Endpoints. On the public listener:

    GET /events                          the caller's stream; resumes from Last-Event-ID, or begins at
                                         ?since=earliest, delivered, a time or an age; ?types=a,b chooses event types
    POST /users/{user}/notifications     with --enable-publish, for one user
    POST /broadcast                      with --enable-publish, for everyone
    POST /session                        a cookie for browsers in exchange for a bearer token
    GET, DELETE /session                 whose it is; removes it

A token is a JWT, signed with the secret or with a key of the files or the key set: the claim sub is the user, exp is when it ends. The claim herald may have {"types":[…],"topics":[…],"publish":true}: the event types and broadcast topics that the user may see, and whether the two POST are allowed. It comes by "Authorization: Bearer" or by the cookie.

On the admin listener, which is for operators only:

    GET /livez      200 while the process runs
    GET /readyz     200 while Kafka answers, the shared topics are read, there are keys for tokens and,
                    with --revocation-topic, that topic is read; else 503 and why
    GET /metrics    for Prometheus

Configuration. A flag goes before the environment variable beside it, that before the file of --config, that before the default. The file's keys are the flags' names:

    brokers: [a:9092, b:9092]
    topic:
      - notifications
      - announcements,kind=broadcast
    jwt-secret-file: /run/secrets/herald

Signals. SIGTERM and SIGINT end the streams with a reason, so that clients reconnect elsewhere, and then the process; a second one ends it at once.

Exit codes. 0: ended by a signal. 1: it could not run. 2: a flag, variable or file is wrong.`
}

// Validate implements kong.Validatable: what is wrong in itself is told before anything starts.
func (s *serveCommand) Validate() error {
	if err := s.complete(); err != nil {
		return err
	}
	if err := checkBrokers(s.Brokers); err != nil {
		return err
	}
	if err := consumer.CheckRoutes(s.Topic); err != nil {
		return fmt.Errorf("--topic: %w", err)
	}
	if s.FetchMaxBytes < 64<<10 || s.FetchMaxBytes > 128<<20 {
		return fmt.Errorf("--kafka-fetch-max-bytes=%d: want %d to %d", s.FetchMaxBytes, 64<<10, 128<<20)
	}
	if s.Session < 1 {
		return fmt.Errorf("--kafka-session-partitions=%d: want 1 or more", s.Session)
	}
	for _, err := range []error{s.kafkaFlags.check(), s.publishFlags.check(), s.tlsFlags.check(), s.serverFlags.check()} {
		if err != nil {
			return err
		}
	}
	if s.Demo && !s.EnablePublish {
		return errors.New("--demo needs --enable-publish: the page writes notifications")
	}
	return s.authFlags.check(s.Listen)
}

// complete names everything that is missing at once.
func (s *serveCommand) complete() error {
	var missing []string
	if len(s.Brokers) == 0 {
		missing = append(missing, "--brokers")
	}
	if len(s.Topic) == 0 {
		missing = append(missing, "--topic")
	}
	if len(s.sources()) == 0 {
		missing = append(missing, "one of "+keyFlags+" and --insecure-no-auth")
	}
	if missing != nil {
		return errors.New("missing: " + strings.Join(missing, ", "))
	}
	return nil
}

// Run implements the command.
func (s *serveCommand) Run(ctx context.Context) error {
	tlsConfig, mechanism, err := s.security()
	if err != nil {
		return err
	}
	set := settings{
		serverFlags: s.serverFlags, publishFlags: s.publishFlags,
		Consumer: consumer.Config{
			Brokers: s.Brokers, TLS: tlsConfig, SASL: mechanism, Group: s.Group, Replica: s.Replica, Routes: s.Topic,
			FetchMaxBytes: s.FetchMaxBytes, SessionPartitions: s.Session, Rack: s.KafkaRack,
		},
	}
	log := s.logger()
	set.Log = log
	if set.access, err = s.access(s.Listen, log); err != nil {
		return err
	}
	if set.Certificate, err = s.certificate(log); err != nil {
		return err
	}
	if set.Consumer.Replica == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("no host name: give --replica: %w", err)
		}
		set.Consumer.Replica = host
	}
	if s.Demo {
		var page *demo.Demo
		set.Extend = func(e *echo.Echo, p *publisher) {
			page = demo.New(demoProducer{p}, p.permitTask(set.JWT), log)
			page.Register(e)
		}
		defer func() {
			if page != nil {
				page.Close()
			}
		}()
	}
	srv, err := newServer(ctx, set)
	if err != nil {
		return err
	}
	return srv.run(ctx)
}
