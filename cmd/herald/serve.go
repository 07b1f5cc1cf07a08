package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/alecthomas/kong"

	"herald/cmd/herald/login"
	"herald/cmd/herald/server"
	"herald/consumer"
)

type serveCommand struct {
	Brokers       []string         `required:"" placeholder:"HOST:PORT" help:"Kafka brokers to connect to first; the server finds the others. Required." group:"Kafka"`
	Topic         []consumer.Route `required:"" sep:";" placeholder:"NAME[,KEY=VALUE…]" help:"A topic to serve, see above. Repeat the flag, or separate several topics by semicolons. Required." group:"Kafka"`
	Group         string           `nonempty:"" default:"herald" placeholder:"NAME" help:"Prefix of the consumer groups: GROUP.REPLICA for each replica, GROUP.delivered for delivered positions. Default: ${default}." group:"Kafka"`
	Replica       string           `nonempty:"" placeholder:"NAME" help:"Name of this replica. No two running replicas may have the same name. Default: the host name." group:"Kafka"`
	KafkaRack     string           `placeholder:"NAME" help:"Rack of this replica. If the cluster allows it (KIP-392), the server reads partitions from a broker in the same rack. Default: none." group:"Kafka"`
	FetchMaxBytes int32            `name:"kafka-fetch-max-bytes" default:"8388608" placeholder:"BYTES" help:"Longest answer to one fetch. Memory holds one answer for each fetch session, and a second one for four of the sessions that are far behind. Default: ${default}." group:"Kafka"`
	Session       int              `name:"kafka-session-partitions" default:"300" placeholder:"NUMBER" help:"Most partitions in a fetch session. More partitions need more sessions, each with its own connection. With a lower number, records of many users' topics arrive sooner, over more connections. Default: ${default}." group:"Kafka"`

	kafkaFlags
	schemaFlags
	authFlags
	publishFlags
	tlsFlags
	serverFlags
}

// Help implements kong.HelpProvider.
func (*serveCommand) Help() string { return serveHelp }

const serveHelp = `Example:

    herald token --new-secret secret
    herald serve --brokers localhost:9092 --topic notifications --jwt-secret-file secret
    herald token --jwt-secret-file secret --user alice > alice.token
    herald tail --token-file alice.token
    herald produce --user alice '{"text":"hello"}'

Topics. Each --topic says which user a record belongs to; all kinds may be mixed:

    notifications                        shared: the record key is the user
    notifications,partitioner=murmur2    the same, and every producer chooses the partition by the key,
                                         like Kafka's Java client (murmur2), librdkafka (crc32) or
                                         sarama (fnv1a)
    orders,user=header:owner             shared: the record header "owner" is the user
    orders,user=json:/owner/id           shared: the value is JSON, and the string or integer at this pointer is the user
    notifications.{user}                 one topic a user, read while that user has a stream open
    notifications.{user},encode=base64url
                                         the same for users with any name: the topic's name has the user in
                                         base64url, so that of a|b is notifications.YXxi
    announcements,kind=broadcast         for everyone
    team-news,claim=team                 shared, but the record key is a value of the claim "team": for everyone
                                         whose token has the value; also with user=header:… and user=json:…
    orders,where=header:region=eu        only records whose header "region" is "eu"; with topics of every kind
    orders,format=registry               with any of these: values are Avro, Protobuf or JSON with the id of a
                                         schema in --schema-registry-url, and clients get JSON
    orders,format=confluent-json         values are JSON after the id of a schema, which nobody looks up
    orders,format=cloudevents            values are CloudEvents: clients get their data and their type

The server waits for a topic that does not exist yet. With a partitioner the server looks for a user's records in one partition: event ids are short, and for a resuming client one partition is read again. The server leaves out a record in another partition, counts it (herald_kafka_misplaced_records_total) and logs a warning; so give a partitioner only if every producer uses it.

Endpoints. On the public listener:

    GET /events                          the caller's stream; resumes from Last-Event-ID, or starts at
                                         ?since=earliest, delivered, a time or an age; ?types=a,b chooses event types
    POST /users/{user}/notifications     with --enable-publish, for one user
    POST /broadcast                      with --enable-publish, for everyone
    POST /session                        a cookie for browsers in exchange for a bearer token
    GET, DELETE /session                 shows whose session it is; removes the cookie

A token is a JWT, signed with the secret or with a key of the files or the key set. The claim sub is the user; exp is when the token expires. The claim herald may have {"types":[…],"topics":[…],"where":["header:NAME=VALUE",…],"publish":true}: the event types, the broadcast topics and the records by their headers that the user may see, and whether the two POST are allowed. A request carries the token in the header "Authorization: Bearer" or in the cookie.

On the admin listener, for operators only:

    GET /livez      200 while the process runs
    GET /readyz     200 once Kafka has answered, the shared topics are read, there are keys for tokens and,
                    with --revocation-topic, that topic is read; before that, and while the server stops,
                    503 and the reason. It stays 200 when Kafka is unreachable later
    GET /readyz?strict
                    503 and the reason also while Kafka is unreachable later. With Accept: application/json,
                    both list all conditions
    GET /metrics    for Prometheus
    GET, DELETE /debug/streams
                    lists the open streams; ends some. See herald streams
    GET /debug/pprof/
                    with --admin-pprof, profiles of CPU, memory and goroutines

Configuration. A flag takes precedence over its environment variable, the variable over the file of --config, and the file over the default. The file's keys are the names of flags:

    brokers: [a:9092, b:9092]
    topic:
      - notifications
      - announcements,kind=broadcast
    jwt-secret-file: /run/secrets/herald

White space around the elements of a list does not count. A comma that belongs to an element is \, on the command line and in variables. All other values must not begin or end with white space or invisible characters.

Signals. SIGTERM and SIGINT end the streams with a reason, so that clients reconnect elsewhere, and then the process. A second signal ends the process at once. SIGHUP reads the settings again: the environment, the file of --config and all files that flags name. Keys and secrets of tokens, certificates, origins, limits, quotas, the log level, the log-in to Kafka and to the schema registry then change without an end of a stream. The log names the other changed settings: they need a restart. An error in any setting or file leaves all settings as they were.

Exit codes. 0: ended by a signal. 1: it could not run. 2: a flag, variable or file is wrong.`

// Validate implements kong.Validatable: mistakes that show without files are reported before anything starts.
func (s *serveCommand) Validate() error {
	if err := s.complete(); err != nil {
		return err
	}
	if problems := s.problems(); len(problems) > 0 {
		return problems[0]
	}
	return nil
}

// problems returns the mistakes in the values of the flags. It reads no file.
func (s *serveCommand) problems() []error {
	var list []error
	add := func(err error) {
		if err != nil {
			list = append(list, err)
		}
	}
	add(checkBrokers(s.Brokers))
	if err := consumer.CheckRoutes(s.Topic); err != nil {
		add(fmt.Errorf("--topic: %w", err))
	}
	if s.FetchMaxBytes < 64<<10 || s.FetchMaxBytes > 128<<20 {
		add(fmt.Errorf("--kafka-fetch-max-bytes=%d: want %d to %d", s.FetchMaxBytes, 64<<10, 128<<20))
	}
	if s.Session < 1 {
		add(fmt.Errorf("--kafka-session-partitions=%d: want 1 or more", s.Session))
	}
	for _, err := range []error{s.kafkaFlags.check(), s.schemaFlags.check(s.Topic), s.tlsFlags.check(), s.authFlags.check()} {
		add(err)
	}
	cfg := s.config()
	return append(list, cfg.Problems()...)
}

// config returns the settings that need no file. Run adds the certificate, the keys and the log.
func (s *serveCommand) config() server.Config {
	cfg := server.DefaultConfig()
	cfg.Consumer = consumer.Config{
		Brokers: s.Brokers, Group: s.Group, Replica: s.Replica, Routes: s.Topic,
		FetchMaxBytes: s.FetchMaxBytes, SessionPartitions: s.Session, Rack: s.KafkaRack,
	}
	s.serverFlags.apply(&cfg)
	s.publishFlags.apply(&cfg)
	s.authFlags.apply(&cfg)
	return cfg
}

// complete returns an error that names all missing flags at once.
func (s *serveCommand) complete() error {
	var m missing
	m.add(len(s.Brokers) > 0, "--brokers (Kafka brokers, such as localhost:9092)")
	m.add(len(s.Topic) > 0, "--topic (a topic to serve, such as notifications)")
	m.add(len(s.sources()) > 0, "one of "+keyFlags+" and --insecure-no-auth (how users are authenticated, such as --jwt-secret-file secret)")
	return m.err()
}

// Run implements the command.
func (s *serveCommand) Run(ctx context.Context, parsed *kong.Context) error {
	signals, stop := hangups()
	defer stop()
	cfg := s.config()
	r := &reloader{flags: flagValues(parsed), login: new(login.Replaceable)}
	cfg.Logger, r.level = s.logger()
	var errs []error
	if r.files, errs = s.readFiles(ctx, cfg.Logger); len(errs) > 0 {
		return errs[0]
	}
	cfg.Keys, cfg.Certificate, cfg.Consumer.TLS = r.files.keys, r.files.certificate, r.files.kafka.tls
	if r.files.schemas != nil {
		cfg.Schemas = r.files.schemas
	}
	if r.files.kafka.sasl != nil {
		r.login.Set(r.files.kafka.sasl)
		cfg.Consumer.SASL = r.login
	}
	var err error
	if cfg.Consumer.Replica, err = s.replica(); err != nil {
		return err
	}
	return runServer(ctx, cfg, signals, func(*server.Server) {}, func(srv *server.Server) {
		r.reload(ctx, parsed.Args, cfg.Logger, srv)
	})
}

// replica returns the name of this replica.
func (s *serveCommand) replica() (string, error) {
	if s.Replica != "" {
		return s.Replica, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("no host name: give --replica: %w", err)
	}
	return name, nil
}

// gcPercent trades CPU for memory, of which streams need most: 10,000 idle streams take a sixth less
// memory, for a tenth more CPU in a storm of reconnects.
const gcPercent = 50

// runServer runs a server until ctx ends or a part of the server fails. It calls started once the server
// listens, and then hungUp after each signal of hangups, which may be nil. A server that stops ignores hangups, and does
// not wait for a hungUp under way: it may read a file of a network that is down.
func runServer(ctx context.Context, cfg server.Config, hangups <-chan os.Signal, started, hungUp func(*server.Server)) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	srv, err := server.New(cfg)
	if mistake, ok := errors.AsType[*server.ConfigError](err); ok {
		return usageError{mistake}
	}
	if err != nil {
		return err
	}
	if err := srv.Start(ctx); err != nil {
		return err
	}
	started(srv)
	defer superviseBySystemd(ctx, srv, cfg.Logger)()
	stopping := make(chan struct{})
	go func() {
		for {
			select {
			case <-stopping:
				return
			case <-hangups:
				reportReload(cfg.Logger, func() { hungUp(srv) })
			}
		}
	}()
	select {
	case <-ctx.Done():
		cfg.Logger.Info("server stopping")
	case <-srv.Failed():
	}
	close(stopping)
	err = srv.Stop()
	if err == nil {
		cfg.Logger.Info("server stopped")
	}
	return err
}
