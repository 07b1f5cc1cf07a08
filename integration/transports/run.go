package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// runCommand measures all transports, one session after the other.
type runCommand struct {
	measureFlags

	Transport  []string  `help:"The transports to measure. Default: all."`
	Clients    []int     `help:"The numbers of clients. Default: 100, 1,000 and 10,000 for some transports, 1,000 for the others."`
	Rate       []float64 `help:"Records a second and client. Default: 0.01, 1 and 10."`
	MaxRecords float64   `default:"40000" help:"Leave out a rate if it gives all clients together more than this many records a second."`
	Nginx      bool      `help:"Measure through nginx in its default configuration."`

	ReplayCacheBytes int `default:"${cache}" help:"The server's memory for records that returning clients need, in bytes. The results do not name it: write those of another size to another file."`
}

// measureFlags are the flags of both commands that measure.
type measureFlags struct {
	Brokers []string `required:"" env:"HERALD_BENCH_BROKER" help:"Kafka's brokers."`
	Runs    int      `default:"3" help:"How many times to measure everything."`
	First   int      `default:"1" help:"Number of the first run. Give the next number to add runs to a file that has some."`
	Out     string   `default:"integration/transports/results/results.csv" help:"File that the results are appended to."`
}

// Validate implements kong.Validatable.
func (r *runCommand) Validate() error {
	if slices.ContainsFunc(r.Clients, func(n int) bool { return n < 2 }) {
		return errors.New("--clients: want 2 or more: what a server takes with one client is subtracted")
	}
	if slices.ContainsFunc(r.Rate, func(rate float64) bool { return !(rate > 0) }) {
		return errors.New("--rate: want more than 0; a session begins without records anyway")
	}
	return nil
}

// Run implements the command.
func (r *runCommand) Run(ctx context.Context) error {
	kafka, err := kgo.NewClient(kgo.SeedBrokers(r.Brokers...), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(100_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer kafka.Close()
	sessions, err := r.sessions()
	if err != nil {
		return err
	}
	for n := r.First; n < r.First+r.Runs; n++ {
		base, err := r.warmUp(ctx, kafka)
		if err != nil {
			return err
		}
		rand.Shuffle(len(sessions), func(i, j int) { sessions[i], sessions[j] = sessions[j], sessions[i] }) //nolint:gosec // no secret
		for _, s := range sessions {
			s.run, s.kafka, s.base = n, kafka, base
			begin := time.Now()
			list, err := s.measure(ctx, r.Brokers)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			note := ""
			if err != nil {
				note = ": " + err.Error()
			}
			_, _ = fmt.Fprintf(os.Stderr, "run %d, %s, %s, %d clients, %v%s\n", n, s.setting, s.transport.name, s.count, time.Since(begin).Round(time.Second), note)
			switch {
			case s.setting.isProxied() && (errors.Is(err, errNotLive) || err == nil || errors.Is(err, errNotReached)):
				list = append(list, result{n, s.setting, s.transport.name, s.count, 0, works, worksAs(s.transport, list, err)})
			case err != nil && !errors.Is(err, errNotReached):
				return err
			}
			if err := appendResults(r.Out, list); err != nil {
				return err
			}
		}
	}
	return nil
}

// worksAs returns the value of the measure works for a session through a proxy.
func worksAs(t transport, list []result, err error) float64 {
	late := slices.ContainsFunc(list, func(r result) bool {
		return r.Measure == latencyP50 && r.Value > float64((time.Second+t.every).Milliseconds())
	})
	if err != nil || late {
		return 0
	}
	return 1
}

// nginxTransports are the transports that are measured through nginx, to which the clients speak without TLS.
var nginxTransports = []string{"sse", "ws", "longpoll", "poll-1s"}

// warmUp runs a session whose results are thrown away. The first session on a new broker would be slow, because the
// broker's JVM still compiles its code. Then warmUp returns the CPU that a server with one client takes, as a part of a
// core.
func (r *runCommand) warmUp(ctx context.Context, kafka *kgo.Client) (base float64, err error) {
	s := session{setting: direct, transport: transports[0], count: 1000, rates: []float64{10}, timing: usualTiming, cache: r.ReplayCacheBytes, kafka: kafka}
	if _, err := s.measure(ctx, r.Brokers); err != nil && !errors.Is(err, errNotReached) {
		return 0, err
	}
	s = session{setting: direct, transport: transports[0], count: 1, timing: usualTiming, cache: r.ReplayCacheBytes, kafka: kafka}
	s.timing.window = s.timing.empty
	list, err := s.measure(ctx, r.Brokers)
	i := slices.IndexFunc(list, func(r result) bool { return r.Measure == cpuServer && r.Rate == 0 })
	if err != nil || i < 0 {
		return 0, fmt.Errorf("measure a server with one client: %w", err)
	}
	return list[i].Value / 1e6, ctx.Err()
}

// manyClients are the transports that are measured with 100, 1,000 and 10,000 clients.
var manyClients = []string{"sse", "sse-nethttp", "ws", "longpoll", "poll-5s"}

// cutTransports are the transports whose connections are cut.
var cutTransports = []string{"sse", "sse-h2", "ws", "longpoll", "poll-1s", "poll-5s"}

// sessions returns the sessions of a run. A copy of each is measured in each run.
func (r *runCommand) sessions() (list []session, err error) {
	names := r.Transport
	switch {
	case len(names) > 0:
	case r.Nginx:
		names = nginxTransports
	default:
		names = transportNames()
	}
	for _, name := range names {
		t, err := transportOf(name)
		if err != nil {
			return nil, err
		}
		if r.Nginx && t.tls {
			return nil, fmt.Errorf("--transport %s: this nginx does not speak TLS: want one of %s", name, strings.Join(nginxTransports, ", "))
		}
		counts := r.Clients
		switch {
		case len(counts) > 0:
		case r.Nginx:
			counts = []int{100}
		case slices.Contains(manyClients, name):
			counts = []int{100, 1000, 10_000}
		default:
			counts = []int{1000}
		}
		for _, count := range counts {
			s := session{setting: direct, transport: t, count: count, timing: usualTiming, cache: r.ReplayCacheBytes, cuts: count == 1000 && slices.Contains(cutTransports, name)}
			for _, rate := range r.rates(t, count) {
				if rate*float64(count) <= r.MaxRecords {
					s.rates = append(s.rates, rate)
				}
			}
			if r.Nginx {
				s.setting, s.rates, s.cuts = nginx, []float64{1}, false
				s.timing.open = 15 * time.Second // without the proxy, 100 clients are live in a second
			}
			list = append(list, s)
			if r.Nginx && t.protocol == webSocket {
				s.setting = upgraded
				list = append(list, s)
			}
		}
	}
	return list, nil
}

// rates returns the rates for a session. Sessions with few records, and sessions of polls every 30 s, take long, so
// that there are fewer of them.
func (r *runCommand) rates(t transport, clients int) []float64 {
	switch {
	case len(r.Rate) > 0:
		return r.Rate
	case t.newConn:
		return nil // its requests cost the most by far, and each client makes as many at any rate
	case t.every >= 30*time.Second:
		return []float64{1}
	case clients != 1000:
		return []float64{1, 10}
	default:
		return []float64{0.01, 1, 10}
	}
}

// appendResults appends to a CSV file, which it makes if there is none.
func appendResults(path string, list []result) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // results are no secret
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // likewise
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = writeResults(f, info.Size() == 0, list...)
	}
	return errors.Join(err, f.Close())
}
