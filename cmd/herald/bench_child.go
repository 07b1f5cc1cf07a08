package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"herald/cmd/herald/bench"
	"herald/consumer"
)

// childGrace is how long a child process has to end.
const childGrace = 5 * time.Second

// benchChildCommand is what herald bench starts itself as. It ends with its standard input, so that
// it does not outlive its parent, however that ends; and it leaves Ctrl-C, which a terminal sends to
// both, to the parent.
type benchChildCommand struct {
	Args []string `arg:"" passthrough:"" help:"broker, bare, or a command of herald."`
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
	go func() { // as long as the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if b.Args[0] == "broker" {
		broker, err := (&devCommand{KafkaListen: "127.0.0.1:0"}).broker(ctx)
		if err != nil {
			return err
		}
		defer broker.Close()
		fmt.Println(broker.ListenAddrs()[0])
		<-ctx.Done()
		return nil
	}
	if code := run(ctx, b.Args, os.Stderr); code != 0 {
		return errors.New("it ended") // it has said why
	}
	return nil
}

// childCommand is the command line that starts this program as a child.
func childCommand(args ...string) ([]string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("this program's file: %w", err)
	}
	return append([]string{program, "bench-child"}, args...), nil
}

// child is a process of this program.
type child struct {
	command *exec.Cmd
	kill    context.CancelFunc
	stdin   io.Closer
	lines   *bufio.Scanner

	printing sync.WaitGroup
}

// startChild starts a child and reads what it prints, or logs if it is to be a server.
func startChild(ctx context.Context, logs bool, args ...string) (*child, error) {
	line, err := childCommand(args...)
	if err != nil {
		return nil, err
	}
	ctx, kill := context.WithCancel(context.WithoutCancel(ctx))                      // Ctrl-C lets the measurement end first
	c := &child{command: exec.CommandContext(ctx, line[0], line[1:]...), kill: kill} //nolint:gosec // ourselves
	pipe := c.command.StdoutPipe
	if c.command.Stderr = os.Stderr; logs {
		c.command.Stderr = nil
		pipe = c.command.StderrPipe
	}
	out, err := pipe()
	if err != nil {
		return nil, err
	}
	if c.stdin, err = c.command.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.command.Start(); err != nil {
		return nil, err
	}
	c.lines = bufio.NewScanner(out)
	return c, nil
}

// stop lets the child end and waits for it.
func (c *child) stop() {
	_ = c.stdin.Close()
	late := time.AfterFunc(childGrace, c.kill)
	defer late.Stop()
	c.printing.Wait()
	_ = c.command.Wait() // what it had to say is on its standard error
	c.kill()
}

// startSelf starts a broker and a server and points the measurement at them.
func (b *benchCommand) startSelf(ctx context.Context, cfg *bench.Config) (stop func(), err error) {
	broker, err := startChild(ctx, false, "broker")
	if err != nil {
		return nil, err
	}
	if !broker.lines.Scan() {
		broker.stop()
		return nil, errors.New("--self: the broker does not start")
	}
	address := broker.lines.Text()
	server, err := startChild(ctx, true, "serve", "--brokers="+address, "--topic="+routeText(b.route()), "--insecure-no-auth",
		"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json", "--drain-timeout=1s")
	if err != nil {
		broker.stop()
		return nil, err
	}
	stop = func() { server.stop(); broker.stop() }
	cfg.Kafka = []kgo.Opt{kgo.SeedBrokers(address)}
	cfg.PID = server.command.Process.Pid
	cfg.URL, cfg.Admin, err = server.addresses()
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// routeText is the route as flags spell it.
func routeText(r consumer.Route) string {
	text := fmt.Sprintf("%s,kind=%s", r.Topic, r.Kind)
	if r.UserHeader != "" {
		text += ",user=header:" + r.UserHeader
	}
	return text
}

// addresses reads the log until it names the listeners.
func (c *child) addresses() (streams, admin string, err error) {
	for c.lines.Scan() {
		var entry struct {
			Listen string `json:"listen"`
			Admin  string `json:"admin_listen"`
		}
		if json.Unmarshal(c.lines.Bytes(), &entry) == nil && entry.Listen != "" {
			c.printing.Go(c.relay)
			return "http://" + entry.Listen + "/events", "http://" + entry.Admin, nil
		}
		c.relayLine()
	}
	return "", "", errors.New("--self: the server does not start")
}

// relay prints the log until it ends with the process.
func (c *child) relay() {
	for c.lines.Scan() {
		c.relayLine()
	}
}

// relayLine prints what is not routine.
func (c *child) relayLine() {
	if !bytes.Contains(c.lines.Bytes(), []byte(`"level":"INFO"`)) {
		_, _ = fmt.Fprintln(os.Stderr, c.lines.Text())
	}
}
