package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	segmentio "github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"herald/auth"
	"herald/cmd/herald/bench"
	"herald/consumer"
)

// benchCommand has few variables: what serve and tail read is meant for them.
type benchCommand struct {
	Self          bool   `env:"-" help:"Start a broker and a server as child processes and measure that server." group:"Server"`
	URL           string `name:"url" env:"-" default:"http://127.0.0.1:8080/events" placeholder:"URL" help:"Where the streams are. Without a path: /events. Default: ${default}." group:"Server"`
	JWTSecretFile string `name:"jwt-secret-file" placeholder:"FILE" help:"File with the server's secret, to make each user a token. Default: no token, ?user= names the user." group:"Server"`
	TokenFile     string `env:"-" placeholder:"FILE" help:"File with a token for all streams, which are then its user's; only with a broadcast topic." group:"Server"`
	Admin         string `env:"-" placeholder:"URL" help:"The server's admin listener, such as http://127.0.0.1:8081, to read memory, CPU and counters." group:"Server"`
	ServerPID     int    `name:"server-pid" env:"-" placeholder:"PID" help:"The server's process, to read memory and CPU more often (Linux, same machine)." group:"Server"`

	Streams         int           `env:"-" default:"1000" placeholder:"NUMBER" help:"Streams to open. Default: ${default}." group:"Streams"`
	StreamsPerUser  int           `env:"-" default:"1" placeholder:"NUMBER" help:"How many of them each user has. Default: ${default}." group:"Streams"`
	UserPrefix      string        `env:"-" default:"bench-" placeholder:"TEXT" help:"Users are called TEXT0, TEXT1 and so on. Default: ${default}." group:"Streams"`
	Stalled         int           `env:"-" default:"0" placeholder:"NUMBER" help:"More streams that are opened and never read. Default: ${default}." group:"Streams"`
	SourceAddresses []net.IP      `env:"-" placeholder:"IP" help:"Addresses of this machine to connect from; one has ports for some 28,000 streams. Default: the system's choice, for 127.0.0.1 as many of 127.0.0.0/8 as are needed (Linux)." group:"Streams"`
	OpenRate        int           `env:"-" default:"0" placeholder:"NUMBER" help:"Most streams to open a second; 0: as many as can be. Default: ${default}." group:"Streams"`
	Settle          time.Duration `env:"-" default:"10s" placeholder:"DURATION" help:"Longest wait for the server's memory to settle when the streams are open. Default: ${default}." group:"Streams"`
	OpenAtOnce      int           `env:"-" default:"256" placeholder:"NUMBER" help:"Streams that are being opened at a time. In a storm it is all of them. Default: ${default}." group:"Streams"`

	Brokers  []string        `env:"-" placeholder:"HOST:PORT" help:"Kafka brokers to write the records to. Default: no records, the streams are idle." group:"Records"`
	Topic    *consumer.Route `env:"-" placeholder:"NAME[,KEY=VALUE…]" help:"Topic to write to, as for serve; with kind=broadcast all streams get each record. Default: notifications." group:"Records"`
	Rate     int             `env:"-" default:"1000" placeholder:"NUMBER" help:"Records a second, for one user after the other; 0: as many as are delivered. Default: ${default}." group:"Records"`
	Size     int             `env:"-" default:"128" placeholder:"BYTES" help:"Size of a record's value. Default: ${default}." group:"Records"`
	Duration time.Duration   `env:"-" default:"10s" placeholder:"DURATION" help:"How long to write; 0: no records. Default: ${default}." group:"Records"`
	Storm    int             `env:"-" default:"0" placeholder:"NUMBER" help:"Afterwards cut all streams, write so many records for each user, and let all come back at once. Default: ${default}." group:"Records"`
	Patience time.Duration   `env:"-" default:"15s" placeholder:"DURATION" help:"Events count as lost when none has come for so long. Default: ${default}." group:"Records"`

	Bare bool   `env:"-" help:"Measure a bare write loop too, see above." group:"Comparison"`
	JSON string `name:"json" env:"-" placeholder:"FILE" help:"Write the report as JSON to this file; - is standard output, without the table." group:"Report"`

	kafkaFlags
}

// Help implements kong.HelpProvider.
func (*benchCommand) Help() string {
	return `Example:

    herald bench --self
    herald bench --url http://127.0.0.1:8080 --admin http://127.0.0.1:8081 --streams 10000
    herald bench --brokers localhost:9092 --streams 2000 --rate 1000 --duration 30s
    herald bench --self --topic announcements,kind=broadcast --streams 2000 --rate 0 --bare
    herald bench --self --streams 5000 --storm 150

What it does, one after the other:

    opening   opens the streams; a stream is open when its checkpoint has come
    idle      waits until the server's memory has settled (with --self, --admin or --server-pid)
    live      writes one record for each user, then for --duration at --rate, and waits for all
    storm     with --storm: cuts all streams, writes, and reconnects them with their last ids
    bare      with --bare: the comparison

How to read it. Latency is from handing a record to the Kafka client until it is read from the socket: producing, Kafka, Herald and the network together. Each record has its number, and each stream is checked for every number once and in order, over cuts and reconnections; exit code 1 says that something was lost, twice or out of order. Streams that the server ends are opened again with their last ids, after the reconnection time that it tells.

The bare write loop is a process that accepts as many streams, read by the same client, and writes events of as many bytes to one after the other with one write(2) each. It knows no users and no Kafka: what the kernel lets through is the upper bound of a server that writes each event by itself. Compare at --rate 0, which keeps one record for each stream under way (two of a broadcast), so that the server is always busy and never far behind.

Stalled streams have users of their own, whose records (with a broadcast topic, everyone's) fill what the kernel and the server hold for them; the report is of the others.

Tool and server take processor time from each other if they share a machine. The report has the CPU of both. One process has as many streams as its limit of open files allows; start several, each with a --user-prefix of its own, for more. Users' records are left in the topic.

Ctrl-C ends early, with the report so far; a second one at once.

Exit codes. 0: measured. 1: it could not be measured, or events were lost, twice or out of order. 2: a flag or file is wrong.`
}

// Validate implements kong.Validatable.
func (b *benchCommand) Validate() error {
	u, err := parseStreamURL(b.URL)
	switch {
	case err != nil:
		return err
	case b.Self && (len(b.Brokers) > 0 || b.Admin != "" || b.ServerPID != 0 || b.JWTSecretFile != "" || b.TokenFile != ""):
		return errors.New("--self starts broker and server itself: leave out --brokers, --admin, --server-pid and tokens")
	case b.TokenFile != "" && b.JWTSecretFile != "":
		return errors.New("--jwt-secret-file and --token-file exclude each other")
	case b.TokenFile != "" && len(b.Brokers) > 0 && b.route().Kind != consumer.Broadcast:
		return errors.New("--token-file makes all streams one user's: give --jwt-secret-file, or a --topic with kind=broadcast")
	case b.Bare && !b.Self && len(b.Brokers) == 0:
		return errors.New("--bare compares how records are delivered: give --brokers or --self")
	}
	if b.Admin != "" {
		if a, err := url.Parse(b.Admin); err != nil || a.Host == "" || a.Scheme != "http" && a.Scheme != "https" {
			return fmt.Errorf("--admin %q: want a URL such as http://127.0.0.1:8081", b.Admin)
		}
	}
	b.URL = u.String()
	cfg := b.config()
	if err := cfg.Check(); err != nil {
		return err
	}
	if err := checkBrokers(b.Brokers); err != nil {
		return err
	}
	return b.check()
}

func (b *benchCommand) route() consumer.Route {
	if b.Topic != nil {
		return *b.Topic
	}
	return consumer.Route{Topic: "notifications"}
}

// Run implements the command.
func (b *benchCommand) Run(ctx context.Context) error {
	cfg := b.config()
	if b.Self {
		stop, err := b.startSelf(ctx, &cfg)
		if err != nil {
			return err
		}
		defer stop()
	}
	if err := b.connect(&cfg); err != nil {
		return err
	}
	if b.Bare {
		command, err := childCommand("bare")
		if err != nil {
			return err
		}
		cfg.Bare = command
	}
	report, err := bench.Run(ctx, cfg)
	if err != nil {
		return err
	}
	if err := b.write(report, os.Stdout); err != nil {
		return err
	}
	if problems := report.Problems(); problems != "" {
		return errors.New(problems)
	}
	return nil
}

// config is what the flags say by themselves.
func (b *benchCommand) config() bench.Config {
	route := b.route()
	return bench.Config{
		URL: b.URL, Admin: b.Admin, PID: b.ServerPID,
		Streams: b.Streams, PerUser: b.StreamsPerUser, Prefix: b.UserPrefix, Stalled: b.Stalled,
		Sources: b.SourceAddresses, OpenRate: b.OpenRate, OpenAtOnce: b.OpenAtOnce,
		Record: recordFor(route), Broadcast: route.Kind == consumer.Broadcast,
		Rate: b.Rate, Size: b.Size, Duration: b.Duration, Storm: b.Storm, Settle: b.Settle, Patience: b.Patience,
		Progress: os.Stderr,
	}
}

// connect reads the files that the flags name, and sets how to reach Kafka.
func (b *benchCommand) connect(cfg *bench.Config) error {
	if b.JWTSecretFile != "" {
		signer, err := loadSecretSigner(b.JWTSecretFile)
		if err != nil {
			return usageError{err}
		}
		expires := time.Now().Add(b.Duration + 24*time.Hour)
		cfg.Token = func(user string) (string, error) { return signer.Sign(auth.Identity{User: user, Expires: expires}) }
	}
	if b.TokenFile != "" {
		text, err := os.ReadFile(b.TokenFile)
		if err != nil {
			return usageError{fmt.Errorf("--token-file: %w", err)}
		}
		cfg.Token = func(string) (string, error) { return strings.TrimSpace(string(text)), nil }
	}
	if len(b.Brokers) == 0 {
		return nil
	}
	tlsConfig, mechanism, err := b.security()
	if err != nil {
		return err
	}
	cfg.Kafka = []kgo.Opt{kgo.SeedBrokers(b.Brokers...)}
	if tlsConfig != nil {
		cfg.Kafka = append(cfg.Kafka, kgo.DialTLSConfig(tlsConfig))
	}
	if mechanism != nil {
		cfg.Kafka = append(cfg.Kafka, kgo.SASL(franzMechanism{mechanism}))
	}
	return nil
}

// recordFor returns the records of a route's users, or of everyone.
func recordFor(route consumer.Route) func(user string) *kgo.Record {
	return func(user string) *kgo.Record {
		m, ok := consumer.MessageFor([]consumer.Route{route}, user)
		if !ok {
			return nil
		}
		record := &kgo.Record{Topic: m.Topic, Key: m.Key}
		for _, h := range m.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		return record
	}
}

// write puts the report where the flags say.
func (b *benchCommand) write(report *bench.Report, out io.Writer) error {
	if b.JSON == "" {
		return report.Print(out)
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if b.JSON == "-" {
		_, err := out.Write(text)
		return err
	}
	if err := os.WriteFile(b.JSON, text, 0o600); err != nil {
		return fmt.Errorf("--json: %w", err)
	}
	return report.Print(out)
}

// franzMechanism is a mechanism of kafka-go for franz-go.
type franzMechanism struct{ segmentio.Mechanism }

// Authenticate implements [sasl.Mechanism].
func (f franzMechanism) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		number, _ := strconv.Atoi(port)
		ctx = segmentio.WithMetadata(ctx, &segmentio.Metadata{Host: name, Port: number})
	}
	machine, first, err := f.Start(ctx)
	return franzSession{ctx, machine}, first, err
}

// franzSession is one authentication.
type franzSession struct {
	ctx     context.Context //nolint:containedctx // of the authentication, as franz-go has it
	machine segmentio.StateMachine
}

// Challenge implements [sasl.Session].
func (f franzSession) Challenge(challenge []byte) (bool, []byte, error) {
	return f.machine.Next(f.ctx, challenge)
}
