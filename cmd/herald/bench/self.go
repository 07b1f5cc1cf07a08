package bench

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
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// childGrace is how long a child process may take to end before it is killed.
const childGrace = 5 * time.Second

// StartSelf starts a broker and a server as child processes, and sets the addresses in cfg to theirs.
// command is the command line that makes this program such a child; the child's own command follows it.
// topic is the server's --topic. The caller must call stop, which ends both processes.
func StartSelf(ctx context.Context, command []string, topic string, cfg *Config) (stop func(), err error) {
	broker, err := startChild(ctx, command, false, "broker")
	if err != nil {
		return nil, err
	}
	if !broker.lines.Scan() {
		broker.stop()
		return nil, errors.New("--self: the broker does not start")
	}
	address := broker.lines.Text()
	server, err := startChild(ctx, command, true, "serve", "--brokers="+address, "--topic="+topic, "--insecure-no-auth",
		"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json", "--drain-timeout=1s")
	if err != nil {
		broker.stop()
		return nil, err
	}
	stop = func() { server.stop(); broker.stop() }
	cfg.Kafka = []kgo.Opt{kgo.SeedBrokers(address)}
	cfg.PID = server.command.Process.Pid
	cfg.URL, cfg.Admin, err = server.readAddresses()
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// child is a child process.
type child struct {
	command *exec.Cmd
	kill    context.CancelFunc
	stdin   io.Closer
	lines   *bufio.Scanner // reads the child's standard output or its log (startChild)

	printing sync.WaitGroup
}

// startChild starts a child. The child's lines are its log if logs is true, else its standard output.
func startChild(ctx context.Context, command []string, logs bool, args ...string) (*child, error) {
	ctx, kill := context.WithCancel(context.WithoutCancel(ctx)) // after Ctrl-C the measurement ends before the child does
	line := append(command[1:len(command):len(command)], args...)
	c := &child{command: exec.CommandContext(ctx, command[0], line...), kill: kill} //nolint:gosec // this program
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

// stop ends the child through its standard input and waits until it has ended.
func (c *child) stop() {
	_ = c.stdin.Close()
	late := time.AfterFunc(childGrace, c.kill)
	defer late.Stop()
	c.printing.Wait()
	_ = c.command.Wait() // the child has written its errors to standard error
	c.kill()
}

// readAddresses reads the server's log until an entry names the listeners.
func (c *child) readAddresses() (streams, admin string, err error) {
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

// relay prints the log until the process ends.
func (c *child) relay() {
	for c.lines.Scan() {
		c.relayLine()
	}
}

// relayLine prints the last line read, unless it is routine.
func (c *child) relayLine() {
	if !bytes.Contains(c.lines.Bytes(), []byte(`"level":"INFO"`)) {
		_, _ = fmt.Fprintln(os.Stderr, c.lines.Text())
	}
}
