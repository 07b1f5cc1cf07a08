package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"herald/cmd/herald/listener"
	"herald/cmd/herald/server"
	"herald/consumer"
)

type devCommand struct {
	KafkaListen    string           `default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Address of the in-process Kafka broker; the broker tells its clients to connect to this host. Default: ${default}." group:"Kafka"`
	KafkaAdvertise string           `placeholder:"HOST:PORT" help:"Address that clients of the in-process broker connect to, such as host.docker.internal:9092 for clients in containers; --kafka-listen may then be 0.0.0.0:9092. Default: the address of --kafka-listen." group:"Kafka"`
	Topic          []consumer.Route `sep:";" placeholder:"NAME[,KEY=VALUE…]" help:"A topic to serve, in the form of serve's --topic. Repeat the flag, or separate several topics by semicolons. Default: notifications; notifications.{user}; announcements,kind=broadcast." group:"Kafka"`
	DataDir        string           `placeholder:"DIR" help:"Directory that keeps the records between runs. Default: none; the records are in memory and end with the process." group:"Kafka"`

	JWTSecretFile string   `name:"jwt-secret-file" placeholder:"FILE" help:"File with the secret that signs tokens. Users are then authenticated, and the demo page signs in with a token. Default: none; nobody is authenticated, and the query parameter user names the user." group:"Tokens"`
	AllowOrigin   []string `placeholder:"ORIGIN" help:"Origins, such as https://app.example, whose pages may use this server, also with the session cookie. Pages on loopback, such as http://localhost:3000, always may. Default: only loopback." group:"Browsers"`
	AllowHeader   []string `placeholder:"NAME" help:"Request headers that pages of other origins may send, such as X-Request-ID, besides the headers that the server reads and the headers of tracing (traceparent, tracestate, baggage, sentry-trace). Default: no others." group:"Browsers"`

	schemaFlags
	serverFlags
}

// Help implements kong.HelpProvider.
func (*devCommand) Help() string {
	return `Example:

    herald dev
    herald dev --listen 127.0.0.1:8090 --topic 'orders,user=header:owner'
    herald dev --topic 'notifications.{user},encode=base64url' --topic team-news,claim=team
    herald token --new-secret secret; herald dev --jwt-secret-file secret
    herald dev --kafka-listen 0.0.0.0:9092 --kafka-advertise host.docker.internal:9092

For trying Herald out and for developing against it: an in-process Kafka broker for any Kafka client, a server that reads from it, and a demo page. Without --jwt-secret-file nobody is authenticated and every client may publish, so all listeners are on the loopback interface.

The topics are notifications (keyed by user), notifications.{user} (one for each user) and announcements (for everyone), or the topics of --topic. The demo page writes to the first topic that can hold a record for its user. Without a token, claims stand in the addresses of the page and of streams: /?user=alice&claim.team=red. A user whose name no topic can have, such as auth0|42, needs routes without {user} or with encode=base64url.

With --kafka-advertise, clients connect to the address that the broker tells them, so this address must lead to the broker from where the clients are: for containers, host.docker.internal or the address of Docker's bridge, such as 172.17.0.1. The server itself does not need it.

A front end on another port of this machine may use the server. With --jwt-secret-file it must name the same host as its own page (both localhost, or both 127.0.0.1), because browsers send the session cookie only to pages of the same site.`
}

// Validate implements kong.Validatable.
func (d *devCommand) Validate() error {
	for _, l := range []struct{ flag, address, example string }{
		{"--kafka-listen", d.KafkaListen, "127.0.0.1:9092"},
		{"--listen", d.Listen, "127.0.0.1:8080"}, // the demo page needs an address that browsers reach
		{"--admin-listen", d.AdminListen, "127.0.0.1:8081"},
	} {
		if err := listener.CheckHostPort(l.address, l.example); err != nil {
			return fmt.Errorf("%s %w", l.flag, err)
		}
	}
	for flag, address := range map[string]string{"--listen": d.Listen, "--admin-listen": d.AdminListen} {
		if listener.Clash(d.KafkaListen, address) {
			return fmt.Errorf("%s %s: --kafka-listen %s takes this address already: choose another port", flag, address, d.KafkaListen)
		}
	}
	switch {
	case d.KafkaAdvertise == "" && isWildcard(d.KafkaListen):
		return fmt.Errorf("--kafka-listen %s: name one address, because the broker tells its clients to connect to it, or give the address for clients with --kafka-advertise", d.KafkaListen)
	case d.KafkaAdvertise == "":
	case isWildcard(d.KafkaAdvertise):
		return fmt.Errorf("--kafka-advertise %s: name one address: the broker tells its clients to connect to it", d.KafkaAdvertise)
	default:
		if err := checkBroker("--kafka-advertise", d.KafkaAdvertise); err != nil {
			return err
		}
	}
	if err := consumer.CheckRoutes(d.routes()); err != nil {
		return fmt.Errorf("--topic: %w", err)
	}
	if err := d.check(d.routes()); err != nil {
		return err
	}
	cfg := d.config()
	return cfg.Validate()
}

// config returns what the flags say, without the broker's address and the secret.
func (d *devCommand) config() server.Config {
	cfg := server.DefaultConfig()
	cfg.Consumer = consumer.Config{Group: "herald", Replica: "dev", Routes: d.routes()}
	cfg.EnablePublish, cfg.PublishRate, cfg.Demo = true, 0, true
	cfg.AllowOrigin, cfg.AllowHeader, cfg.AllowLoopbackOrigins = d.AllowOrigin, d.AllowHeader, true
	d.apply(&cfg)
	cfg.InsecureNoAuth = d.JWTSecretFile == ""
	cfg.FieldName = func(field string) string {
		if field == "InsecureNoAuth" {
			return "--jwt-secret-file" // without it, nobody is authenticated
		}
		return flagOf(field)
	}
	// Without Secure, because not every browser takes http on loopback for a secure connection.
	cfg.InsecureSessionCookie = listener.LoopbackOnly(cfg.Listen)
	return cfg
}

// devRoutes has one route of each kind.
var devRoutes = []consumer.Route{
	{Topic: "notifications"},
	{Topic: "notifications.{user}", Kind: consumer.PerUser},
	{Topic: "announcements", Kind: consumer.Broadcast},
}

func (d *devCommand) routes() []consumer.Route {
	if d.Topic == nil {
		return devRoutes
	}
	return d.Topic
}

// Run implements the command.
func (d *devCommand) Run(ctx context.Context) error {
	if err := server.CheckFileLimit(); err != nil {
		return err
	}
	cfg := d.config()
	cfg.Logger, _ = d.logger()
	if d.JWTSecretFile != "" {
		var err error
		if cfg.Keys, err = (&authFlags{JWTSecretFile: []string{d.JWTSecretFile}}).keys(cfg.Logger); err != nil {
			return usageError{err}
		}
	}
	schemas, _, err := d.schemaRegistry()
	if err != nil {
		return usageError{err}
	}
	if schemas != nil {
		cfg.Schemas = schemas
	}
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.checkFree(ctx); err != nil {
		return err
	}
	broker, public, err := d.broker(ctx)
	if err != nil {
		return err
	}
	defer broker.Close()
	if !listener.LoopbackOnly(d.KafkaListen) {
		cfg.Logger.Warn("the in-process broker authenticates nobody: every client that reaches it can read and write all records", "listen", d.KafkaListen)
	}
	ctx, stop := endByHangup(ctx)
	defer stop()
	cfg.Consumer.Brokers = broker.ListenAddrs()
	return runServer(ctx, cfg, nil, func(srv *server.Server) {
		d.printInstructions(os.Stdout, reachable(srv.Addr())+d.BasePath, reachable(srv.AdminAddr()), public)
	}, nil)
}

// checkFree returns an error if more than one address is taken, as by another herald dev. It names all of them, and all
// flags that move them: the listeners themselves would report one taken address in each try.
func (d *devCommand) checkFree(ctx context.Context) error {
	var taken, flags []string
	for _, at := range []struct{ flag, address string }{
		{"--kafka-listen", d.KafkaListen}, {"--listen", d.Listen}, {"--admin-listen", d.AdminListen},
	} {
		l, err := listener.Listen(ctx, at.address)
		if err == nil {
			_ = l.Close()
		} else if errors.Is(err, syscall.EADDRINUSE) {
			host, _, _ := net.SplitHostPort(at.address)
			taken = append(taken, at.address)
			flags = append(flags, at.flag+" "+net.JoinHostPort(host, "0"))
		}
	}
	if len(taken) < 2 {
		return nil
	}
	return fmt.Errorf("%s are taken: stop what listens there, or choose other ports, such as free ones with %s", strings.Join(taken, ", "), strings.Join(flags, " "))
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
