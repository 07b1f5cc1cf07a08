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
	"os/signal"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"herald/auth"
	"herald/auth/textfile"
	"herald/cmd/herald/bench"
	"herald/consumer"
)

// benchCommand has an environment variable for only a few flags. The other variables of serve and tail
// would change a measurement by accident.
type benchCommand struct {
	Self      bool   `env:"-" help:"Start a broker and a server as child processes and measure that server. Default: measure the server at --url." group:"Server"`
	URL       string `name:"url" env:"-" default:"http://127.0.0.1:8080/events" placeholder:"URL" help:"Address of the streams. An address without a path gets the path /events. Default: ${default}." group:"Server"`
	TokenFile string `env:"-" placeholder:"FILE" help:"File with one token for all streams. All streams then belong to the token's user, so records need a broadcast topic. Default: none." group:"Server"`
	Admin     string `env:"-" placeholder:"URL" help:"URL of the server's admin listener, such as http://127.0.0.1:8081, to read memory, CPU and counters. Default: not read." group:"Server"`
	ServerPID int    `name:"server-pid" env:"-" placeholder:"PID" help:"Process id of the server, to read memory and CPU more often (Linux, same machine). Default: not read." group:"Server"`

	Streams         int           `env:"-" default:"1000" placeholder:"NUMBER" help:"Streams to open, at most as many as the limit of open files allows. Default: ${default}." group:"Streams"`
	StreamsPerUser  int           `env:"-" default:"1" placeholder:"NUMBER" help:"Streams of each user. Default: ${default}." group:"Streams"`
	UserPrefix      string        `env:"-" default:"bench-" placeholder:"TEXT" help:"Users are called TEXT0, TEXT1 and so on. Default: ${default}." group:"Streams"`
	Stalled         int           `env:"-" default:"0" placeholder:"NUMBER" help:"Additional streams that are opened and never read. Default: ${default}." group:"Streams"`
	SourceAddresses []net.IP      `env:"-" placeholder:"IP" help:"Addresses of this machine to connect from. One address has ports for about 28,000 streams. Default: the system's choice; on Linux, for a server at 127.0.0.1, as many addresses of 127.0.0.0/8 as the streams need." group:"Streams"`
	OpenRate        int           `env:"-" default:"0" placeholder:"NUMBER" help:"Streams to open a second, at most. 0: no limit. Default: ${default}." group:"Streams"`
	Settle          time.Duration `env:"-" default:"10s" placeholder:"DURATION" help:"Longest wait for the server's memory to settle after the streams are open. Default: ${default}." group:"Streams"`
	OpenAtOnce      int           `env:"-" default:"256" placeholder:"NUMBER" help:"Streams that are being opened at a time, at most. A storm opens all of them at a time. Default: ${default}." group:"Streams"`

	Brokers  []string        `env:"-" placeholder:"HOST:PORT" help:"Kafka brokers to write the records to. Default: no records; the streams stay idle." group:"Records"`
	Topic    *consumer.Route `env:"-" placeholder:"NAME[,KEY=VALUE…]" help:"Topic to write to, in the form of serve's --topic. With kind=broadcast all streams get each record. Default: notifications." group:"Records"`
	Rate     int             `env:"-" default:"1000" placeholder:"NUMBER" help:"Records to write a second, for one user after the other. 0: as many as the server delivers. Default: ${default}." group:"Records"`
	Size     int             `env:"-" default:"128" placeholder:"BYTES" help:"Size of a record's value, 96 to 1048576. Default: ${default}." group:"Records"`
	Duration time.Duration   `env:"-" default:"10s" placeholder:"DURATION" help:"How long to write records. 0: no records. Default: ${default}." group:"Records"`
	Storm    int             `env:"-" default:"0" placeholder:"NUMBER" help:"Records to write for each user while all streams are cut; then all streams are opened again at once. 0: no storm. Default: ${default}." group:"Records"`
	Patience time.Duration   `env:"-" default:"15s" placeholder:"DURATION" help:"Count the missing events as lost when no event has arrived for this long, 1s or more. Default: ${default}." group:"Records"`

	Bare bool   `env:"-" help:"Measure a bare write loop too, as described above. Default: no comparison." group:"Comparison"`
	JSON string `name:"json" env:"-" placeholder:"FILE" help:"Write the report as JSON to this file too. With - the JSON goes to standard output and replaces the table. Default: only the table." group:"Report"`

	signerFlags
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

Tokens. With --jwt-secret-file or --jwt-key-file, the tool makes a token for each user, with the claims that the server wants by its flags --jwt-issuer, --jwt-audience and --jwt-user-claim: give both the same values. Without one of these files and without --token-file, the query parameter user names the user.

The phases, in their order:

    opening   opens the streams; a stream is open when its first checkpoint has arrived
    idle      waits until the server's memory has settled (with --self, --admin or --server-pid)
    live      writes one record for each user, then records at --rate for --duration, and waits for all events
    storm     with --storm: cuts all streams, writes records, and opens the streams again with their last ids
    bare      with --bare: measures the bare write loop

How to read the report. The latency is the time from handing a record to the Kafka client until its event is read from the socket: producing, Kafka, Herald and the network together. The tool numbers the records and checks that each stream gets every number once and in order, also after cuts and reconnections. If the server ends a stream, the tool opens it again with its last id, after the server's reconnection time.

The bare write loop is a process that accepts as many streams and writes events of as many bytes, one write(2) for each event, to one stream after the other. The same code reads its events. It has no users and no Kafka, so its rate is the kernel's upper bound for a server that writes each event by itself. Compare at --rate 0: the tool then keeps one record for each stream under way (two of a broadcast), so that the server is always busy and its queues stay short.

Stalled streams have their own users. The records of these users, or of everyone with a broadcast topic, fill the buffers of the kernel and of the server. The report covers only the other streams.

Tool and server take CPU time from each other if they share a machine. The report shows the CPU time of both. One process can have as many streams as its limit of open files allows. For more streams start several processes, each with its own --user-prefix. The records remain in the topic.

Ctrl-C ends the measurement early and prints the report so far. A second Ctrl-C ends the program at once.

Exit codes. 0: measured, and no event was lost, repeated or out of order. 1: not measured, or events were lost, repeated or out of order. 2: a flag or file is wrong.`
}

// Validate implements kong.Validatable.
func (b *benchCommand) Validate() error {
	u, err := parseStreamURL(b.URL)
	switch {
	case err != nil:
		return err
	case b.Self && (len(b.Brokers) > 0 || b.Admin != "" || b.ServerPID != 0 || b.given() || b.TokenFile != ""):
		return errors.New("--self starts broker and server itself: leave out --brokers, --admin, --server-pid, --jwt-secret-file, --jwt-key-file and --token-file")
	case b.TokenFile != "" && b.given():
		return errors.New("--token-file excludes --jwt-secret-file and --jwt-key-file")
	case b.TokenFile != "" && len(b.Brokers) > 0 && b.route().Kind != consumer.Broadcast:
		return errors.New("--token-file makes all streams one user's: give --jwt-secret-file instead, or a --topic with kind=broadcast")
	case b.Bare && !b.Self && len(b.Brokers) == 0:
		return errors.New("--bare compares how records are delivered: give --brokers or --self")
	}
	if b.Admin != "" {
		if a, err := url.Parse(b.Admin); err != nil || a.Host == "" || a.Scheme != "http" && a.Scheme != "https" {
			return fmt.Errorf("--admin %q: want a URL such as http://127.0.0.1:8081", b.Admin)
		}
	}
	b.URL = u.String()
	cfg := b.newConfig()
	if err := cfg.Check(); err != nil {
		return err
	}
	if err := checkBrokers(b.Brokers); err != nil {
		return err
	}
	if err := b.signerFlags.check(); err != nil {
		return err
	}
	return b.kafkaFlags.check()
}

func (b *benchCommand) route() consumer.Route {
	if b.Topic != nil {
		return *b.Topic
	}
	return consumer.Route{Topic: "notifications"}
}

// Run implements the command.
func (b *benchCommand) Run(ctx context.Context) error {
	cfg := b.newConfig()
	if b.Self {
		command, err := childCommand()
		if err != nil {
			return err
		}
		stop, err := bench.StartSelf(ctx, command, b.route().String(), &cfg)
		if err != nil {
			return err
		}
		defer stop()
	}
	if err := b.addFiles(ctx, &cfg); err != nil {
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
	if err := b.writeReport(report, os.Stdout); err != nil {
		return err
	}
	if problems := report.Problems(); problems != "" {
		return errors.New(problems)
	}
	return nil
}

// newConfig returns the settings that need neither a file nor a connection.
func (b *benchCommand) newConfig() bench.Config {
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

// addFiles adds the settings that need the flags' files: tokens and the connection to Kafka.
func (b *benchCommand) addFiles(ctx context.Context, cfg *bench.Config) error {
	if b.given() {
		signer, err := b.loadSigner()
		if err != nil {
			return usageError{err}
		}
		expires := time.Now().Add(b.Duration + 24*time.Hour)
		cfg.Token = func(user string) (string, error) { return signer.Sign(auth.Identity{User: user, Expires: expires}) }
	}
	if b.TokenFile != "" {
		text, err := textfile.ReadSecret(b.TokenFile)
		if err != nil {
			return usageError{fmt.Errorf("--token-file: %w", err)}
		}
		cfg.Token = func(string) (string, error) { return string(text), nil }
	}
	if len(b.Brokers) == 0 {
		return nil
	}
	kafka, err := b.connection(ctx)
	if err != nil {
		return err
	}
	cfg.Kafka = []kgo.Opt{kgo.SeedBrokers(b.Brokers...)}
	if kafka.tls != nil {
		cfg.Kafka = append(cfg.Kafka, kgo.DialTLSConfig(kafka.tls))
	}
	if kafka.sasl != nil {
		cfg.Kafka = append(cfg.Kafka, bench.SASL(kafka.sasl))
	}
	return nil
}

// recordFor returns the function that makes the records of a route, for [bench.Config].
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

// writeReport writes the report to where the flags say.
func (b *benchCommand) writeReport(report *bench.Report, out io.Writer) error {
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

// benchChildCommand is the command with which `herald bench` starts this program as a child process.
// The child ends when its standard input ends, so that it never outlives its parent. It ignores
// Ctrl-C, which a terminal sends to both processes: the parent decides when the child ends.
type benchChildCommand struct {
	Args []string `arg:"" passthrough:"" help:"What the child runs: broker (a Kafka broker in memory), bare (the least server possible), or a command of herald with its flags."`
}

// Run implements the command.
func (b *benchChildCommand) Run(ctx context.Context) error {
	signal.Ignore(os.Interrupt)
	if b.Args[0] == "bare" {
		defer context.AfterFunc(ctx, func() { _ = os.Stdin.Close() })()
		return bench.ServeBare(os.Stdin, os.Stdout)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // runs as long as the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if b.Args[0] == "broker" {
		broker, _, err := (&devCommand{KafkaListen: "127.0.0.1:0"}).broker(ctx)
		if err != nil {
			return err
		}
		defer broker.Close()
		fmt.Println(broker.ListenAddrs()[0])
		<-ctx.Done()
		return nil
	}
	if code := run(ctx, b.Args, os.Stderr); code != 0 {
		return errors.New("the command failed") // run has printed the error
	}
	return nil
}

// childCommand returns the command line that starts this program as a child.
func childCommand(args ...string) ([]string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("this program's file: %w", err)
	}
	return append([]string{program, "bench-child"}, args...), nil
}
