package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// bareTime is how long the loop runs, unless the measurement was shorter.
const bareTime = 5 * time.Second

// bareOrder is an order to the loop: how many streams to accept and what to write to them.
type bareOrder struct {
	Run     uint64  `json:"run"`
	Streams int     `json:"streams"`
	Size    int     `json:"size"`  // of the value, in bytes
	Frame   int     `json:"frame"` // of an event with its chunk's framing, in bytes
	Seconds float64 `json:"seconds"`
}

// bareResult is the loop's report.
type bareResult struct {
	Address string  `json:"address,omitempty"` // where it listens; only in the first report
	Events  int64   `json:"events"`
	CPU     float64 `json:"cpu_seconds"` // while it wrote
	Error   string  `json:"error,omitempty"`
}

// ServeBare runs the least server possible: it accepts streams, answers their requests, and then
// writes one event at a time, each with one write(2), to one stream after the other. It reads its
// orders from in and writes its reports to out. It returns when in ends.
func ServeBare(in io.Reader, out io.Writer) error {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answers := json.NewEncoder(out)
	if err := answers.Encode(bareResult{Address: l.Addr().String()}); err != nil {
		return err
	}
	orders := make(chan bareOrder)
	go func() { // runs until in ends
		defer l.Close() //nolint:errcheck // closed to end acceptBare
		defer close(orders)
		var order bareOrder
		for in := json.NewDecoder(in); in.Decode(&order) == nil; {
			orders <- order
		}
	}()
	order, ok := <-orders
	if !ok {
		return nil
	}
	streams, err := acceptBare(l, order.Streams)
	if err != nil {
		return err
	}
	if order, ok = <-orders; !ok {
		return nil
	}
	err = answers.Encode(writeBare(streams, order))
	<-orders // the streams stay open until in ends
	return err
}

// bareStream is a connection and the number of its last event.
type bareStream struct {
	net.Conn
	source int
	number uint64
}

// acceptBare accepts streams and answers their requests. The user of a request is the number of its
// source.
func acceptBare(l net.Listener, count int) ([]*bareStream, error) {
	const checkpoint = "id: 0\nevent: checkpoint\ndata: {}\n\n"
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(checkpoint), checkpoint)
	var streams []*bareStream
	for range count {
		c, err := l.Accept()
		if err != nil {
			return nil, err
		}
		req, err := http.ReadRequest(bufio.NewReaderSize(c, 1<<10))
		if err != nil {
			return nil, err
		}
		source, err := strconv.Atoi(req.URL.Query().Get("user"))
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(c, head); err != nil {
			return nil, err
		}
		streams = append(streams, &bareStream{Conn: c, source: source})
	}
	return streams, nil
}

// writeBare writes events to the streams for the ordered time.
func writeBare(streams []*bareStream, order bareOrder) (done bareResult) {
	start, cpu := time.Now(), cpuSeconds()
	end := start.Add(time.Duration(order.Seconds * float64(time.Second)))
	var frame []byte
	for now := start; now.Before(end); now = time.Now() {
		for _, s := range streams {
			s.number++
			frame = appendBare(frame[:0], value{order.Run, s.source, s.number, time.Now().UnixNano()}, order)
			if _, err := s.Write(frame); err != nil {
				done.Error = err.Error()
				return done
			}
			done.Events++
		}
	}
	done.CPU = cpuSeconds() - cpu
	return done
}

// appendBare appends an event as a chunk. The length of its id makes the frame as long as ordered.
func appendBare(b []byte, v value, order bareOrder) []byte {
	const fields = len("id: \ndata: \n\n")
	digits := (bits.Len(uint(order.Frame)) + 3) / 4
	length := max(order.Frame-digits-len("\r\n\r\n"), order.Size+fields)
	b = strconv.AppendInt(b, int64(length), 16)
	b = append(b, "\r\nid: "...)
	for range length - order.Size - fields {
		b = append(b, '0')
	}
	b = append(b, "\ndata: "...)
	b = v.append(b, order.Size)
	return append(b, "\n\n\r\n"...)
}

// measureBare measures the loop. The loop has as many streams as the run and writes as many bytes for
// each event, and the same code reads them.
func (r *run) measureBare(ctx context.Context, live *Phase) (*Bare, error) {
	child, err := startBare(ctx, r.cfg.Bare)
	if err != nil {
		return nil, err
	}
	defer child.stop()
	cfg := r.cfg
	cfg.URL, cfg.Token, cfg.Prefix, cfg.PerUser, cfg.Stalled, cfg.Broadcast = "http://"+child.address+"/events", nil, "", 1, 0, false
	cfg.Sources, cfg.OpenRate = nil, 0
	b, err := newRun(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer b.close()
	b.interrupted = ctx
	b.doing("bare loop")
	defer b.progress()()
	seconds := min(cfg.Duration, bareTime).Seconds()
	order := bareOrder{b.id, cfg.Streams, cfg.Size, int(live.EventBytes), seconds}
	if err := child.orders.Encode(order); err != nil {
		return nil, err
	}
	if _, err := b.openAll(&server{}); err != nil {
		return nil, err
	}
	_ = b.takeResults()
	start := time.Now()
	if err := child.orders.Encode(order); err != nil {
		return nil, err
	}
	var done bareResult
	if err := child.results.Decode(&done); err != nil {
		return nil, err
	}
	if done.Error != "" {
		return nil, errors.New(done.Error)
	}
	if err := b.waitFor(ctx, "not all events of the loop arrive", b.unique, done.Events); err != nil {
		return nil, err
	}
	got := b.takeResults()
	p := newPhase(&got, uint64(done.Events), start, b.lastEvent(), sample{}, sample{cpu: done.CPU}) //nolint:gosec // a count
	p.Saturated = true
	return compare(live, p), nil
}

func compare(live, bare *Phase) *Bare {
	b := &Bare{Phase: *bare, Ratio: live.PerSecond / bare.PerSecond}
	if live.CPUPerEvent > 0 && bare.CPUPerEvent > 0 {
		b.CPURatio = live.CPUPerEvent / bare.CPUPerEvent
	}
	return b
}

// bareChild is the process with the loop.
type bareChild struct {
	command *exec.Cmd
	stdin   io.Closer
	orders  *json.Encoder
	results *json.Decoder
	address string
}

func startBare(ctx context.Context, command []string) (*bareChild, error) {
	c := &bareChild{command: exec.CommandContext(ctx, command[0], command[1:]...)} //nolint:gosec // ourselves
	c.command.Stderr = os.Stderr
	stdin, err := c.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.command.Start(); err != nil {
		return nil, err
	}
	c.stdin, c.orders, c.results = stdin, json.NewEncoder(stdin), json.NewDecoder(stdout)
	var first bareResult
	if err := c.results.Decode(&first); err != nil {
		c.stop()
		return nil, fmt.Errorf("start %s: %w", command[0], err)
	}
	c.address = first.Address
	return c, nil
}

// stop ends the process.
func (c *bareChild) stop() {
	_ = c.stdin.Close()
	_ = c.command.Wait() // the process has written its errors to standard error
}
