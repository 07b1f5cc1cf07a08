package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	windowLength = 5 * time.Second
	heartbeat    = 15 * time.Second // Herald's default
	openPatience = 2 * time.Minute
	lateness     = 15 * time.Second // how long missing records are waited for

	cutEvery = 10 * time.Second
	cutFor   = 20 * time.Second
)

// errNotReached ends a session: the machine is too slow for the rate, so higher rates say nothing.
var errNotReached = errors.New("the rate is not reached")

// session measures one transport with one number of clients.
type session struct {
	run       int
	setting   setting
	transport transport
	count     int // of clients
	rates     []float64
	cuts      bool // cut the connections at the end

	kafka  *kgo.Client
	topic  string
	server *child
	load   *load
	empty  usage // of the server with the first client
	list   []result
}

// usage is what a process has at one time, and how much of a core it takes when nothing happens.
type usage struct{ memory, files, goroutines, cpu float64 }

func (s *session) add(rate float64, m measure, value float64) {
	if !math.IsNaN(value) {
		s.list = append(s.list, result{s.run, s.setting, s.transport.name, s.count, rate, m, value})
	}
}

// measure runs the session against a fresh topic and a fresh server.
func (s *session) measure(ctx context.Context, brokers []string) (list []result, err error) {
	s.topic = fmt.Sprintf("transports-%d", time.Now().UnixNano())
	admin := kadm.NewClient(s.kafka)
	if _, err := admin.CreateTopic(ctx, 4, 1, nil, s.topic); err != nil {
		return nil, fmt.Errorf("create a topic: %w", err)
	}
	defer func() { _, _ = admin.DeleteTopic(context.WithoutCancel(ctx), s.topic) }()
	if s.server, err = startServer(ctx, brokers, s.topic, s.transport.tls); err != nil {
		return nil, err
	}
	defer s.server.stop()
	address := s.server.address
	if s.setting == nginx {
		proxy, err := startNginx(ctx, address)
		if err != nil {
			return nil, err
		}
		defer proxy.stop()
		address = proxy.address
	}
	running, stop := context.WithCancel(ctx)
	s.load = newLoad(s.transport, address, s.count)
	defer s.load.stop()
	defer stop()
	err = s.phases(running)
	for reason, n := range s.load.retries {
		_, _ = fmt.Fprintf(os.Stderr, "  %d connections ended: %s\n", n, reason)
	}
	return s.list, err
}

func (s *session) phases(ctx context.Context) error {
	if err := s.load.start(ctx, 0, 1, openPatience); err != nil {
		return err
	}
	s.empty = s.usage(ctx)
	if err := s.load.start(ctx, 1, s.count, openPatience); err != nil {
		return err
	}
	with := s.usage(ctx)
	others := float64(s.count - 1)
	s.add(0, memoryIdle, (with.memory-s.empty.memory)/others)
	s.add(0, files, (with.files-s.empty.files)/others)
	s.add(0, goroutines, (with.goroutines-s.empty.goroutines)/others)
	s.window(ctx, 0)
	for _, rate := range s.rates {
		if err := s.window(ctx, rate); err != nil {
			return err
		}
	}
	s.add(0, lost, float64(s.load.lost.Load()+s.load.missing()))
	s.add(0, doubled, float64(s.load.doubled.Load()))
	if s.cuts {
		s.measureCuts(ctx)
	}
	return nil
}

// usage returns what the server has once its memory has settled.
func (s *session) usage(ctx context.Context) usage {
	begin, cpu := time.Now(), s.server.cpu()
	memory := s.server.settledMemory(ctx, 4*time.Second)
	taken := (s.server.cpu() - cpu).Seconds() / time.Since(begin).Seconds()
	return usage{memory, s.server.files(), s.server.goroutines(ctx), taken}
}

// counters are what grows in a window.
type counters struct {
	at               time.Time
	server, tool     time.Duration
	wire             uint64
	requests, events int64
}

func (s *session) counters() counters {
	return counters{time.Now(), s.server.cpu(), cpuOf(os.Getpid()), s.load.wire.total(), s.load.requests.Load(), s.load.events.Load()}
}

// window returns how long a window lasts. A window has the same number of polls of each client. When there are few
// records, it has the same number of heartbeats, or of long polls that nothing has ended.
func (t *transport) window(rate float64) time.Duration {
	period := t.every
	if rate < 0.1 && t.every == 0 {
		period = max(t.wait, heartbeat)
	}
	if period == 0 {
		return windowLength
	}
	return (windowLength + period - 1).Truncate(period)
}

// window writes records at the rate and measures. Before it, clients that poll get records at this rate for as long as
// their interval, so that each answer of the window has what an interval brings.
func (s *session) window(ctx context.Context, rate float64) error {
	length := s.transport.window(rate)
	if rate > 0 && s.transport.every > 0 {
		s.load.write(ctx, s.kafka, s.topic, rate, s.transport.every)
	}
	_, _, _ = s.load.latencies.take()
	peak := s.server.watchMemory(ctx)
	before := s.counters()
	if rate > 0 {
		s.load.write(ctx, s.kafka, s.topic, rate, length)
	} else {
		sleep(ctx, length)
	}
	after := s.counters()
	largest := peak()
	seconds := after.at.Sub(before.at).Seconds()
	clientSeconds := float64(s.count) * seconds
	cpu := (after.server - before.server).Seconds() - s.empty.cpu*seconds // the server reads from Kafka without clients too
	bytes := float64(after.wire - before.wire)
	s.add(rate, memoryPeak, (largest-s.empty.memory)/float64(s.count-1))
	s.add(rate, cpuServer, cpu*1e6/clientSeconds)
	s.add(rate, cpuClient, (after.tool-before.tool).Seconds()*1e6/clientSeconds)
	s.add(rate, wireMinute, bytes/clientSeconds*60)
	s.add(rate, requests, float64(after.requests-before.requests)/clientSeconds*60)
	if rate == 0 {
		return nil
	}
	events := float64(after.events - before.events)
	reached := events / (rate * clientSeconds)
	s.add(rate, delivered, reached)
	p50, p99, ok := s.load.latencies.take()
	if reached < sustained || !ok {
		s.load.waitForAll(ctx, lateness)
		return errNotReached
	}
	s.add(rate, cpuEvent, cpu*1e6/events)
	s.add(rate, wireEvent, bytes/events)
	s.add(rate, latencyP50, p50)
	s.add(rate, latencyP99, p99)
	s.load.waitForAll(ctx, lateness+s.transport.every)
	return ctx.Err()
}

// measureCuts resets each connection every 10 s, each at a time of its own, while records are written.
func (s *session) measureCuts(ctx context.Context) {
	s.setting = cuts
	lostBefore, doubledBefore := s.load.lost.Load(), s.load.doubled.Load()
	cutting, stop := context.WithTimeout(ctx, cutFor)
	defer stop()
	var all sync.WaitGroup
	for _, c := range s.load.clients {
		all.Go(func() {
			sleep(cutting, rand.N(cutEvery)) //nolint:gosec // no secret
			for cutting.Err() == nil {
				c.cut()
				sleep(cutting, cutEvery)
			}
		})
	}
	s.load.write(ctx, s.kafka, s.topic, 1, cutFor)
	all.Wait()
	s.load.waitForAll(ctx, lateness+s.transport.every)
	s.add(1, lost, float64(s.load.lost.Load()-lostBefore+s.load.missing()))
	s.add(1, doubled, float64(s.load.doubled.Load()-doubledBefore))
	if p50, p99, ok := s.load.liveAgain.take(); ok {
		s.add(1, liveAgainP50, p50)
		s.add(1, liveAgainP99, p99)
	}
}
