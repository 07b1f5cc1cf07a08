package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/cmd/herald/server"
)

// timing is how long the parts of a session take.
type timing struct {
	window      time.Duration // see [session.windowLength]
	heartbeat   time.Duration // the server's
	idleProxied time.Duration // the window without records behind a proxy
	warmUp      time.Duration
	empty       time.Duration // in which the CPU of a server with one client is measured
	open        time.Duration // how long the clients may take to be live
	late        time.Duration // how long missing records are waited for
	cutEvery    time.Duration
	cutFor      time.Duration
}

// usualTiming makes a run of all sessions take about 25 minutes. nginx gives up a connection on which it reads nothing for
// 60 s.
var usualTiming = timing{
	window: 5 * time.Second, heartbeat: 15 * time.Second, idleProxied: 65 * time.Second, warmUp: 2 * time.Second, empty: 20 * time.Second,
	open: 2 * time.Minute, late: 15 * time.Second, cutEvery: 10 * time.Second, cutFor: 20 * time.Second,
}

// usualCache is the default of herald serve.
var usualCache = server.DefaultConfig().ReplayCacheBytes

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
	timing    timing
	cache     int // the server's memory for records that returning clients need, in bytes

	kafka  *kgo.Client
	topic  string
	server *child
	load   *load
	empty  usage   // of the server with the first client
	base   float64 // the CPU of a server with one client, as a part of a core
	list   []result
}

// usage is what a process has at one time. memory is without garbage.
type usage struct{ memory, files, goroutines float64 }

func (s *session) add(rate float64, m measure, value float64) { s.addIn(s.setting, rate, m, value) }

func (s *session) addIn(where setting, rate float64, m measure, value float64) {
	if !math.IsNaN(value) {
		s.list = append(s.list, result{s.run, where, s.transport.name, s.count, rate, m, value})
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
	if s.server, err = startServer(ctx, brokers, s.topic, s.transport.tls, s.cache); err != nil {
		return nil, err
	}
	defer s.server.stop()
	address := s.server.address
	if s.setting.isProxied() {
		proxy, err := startNginx(ctx, address, s.setting == upgraded)
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
	stop()
	s.load.stop()
	s.load.report(os.Stderr)
	return s.list, err
}

func (s *session) phases(ctx context.Context) error {
	if err := s.load.start(ctx, 0, 1, s.timing.open); err != nil {
		return fmt.Errorf("%w: %w", errNotLive, err)
	}
	if err := s.fillTail(ctx); err != nil {
		return err
	}
	// The first client has records, as each of the others will have.
	s.load.write(ctx, s.kafka, s.topic, 1, s.timing.warmUp, 50)
	s.load.waitForAll(ctx, s.timing.late+s.transport.every)
	var err error
	if s.empty, err = s.usage(ctx); err != nil {
		return err
	}
	if err := s.load.start(ctx, 1, s.count, s.timing.open); err != nil {
		return fmt.Errorf("%w: %w", errNotLive, err)
	}
	// Each client gets two records: a compressor, for example, is made for the first one.
	s.load.write(ctx, s.kafka, s.topic, s.count, s.timing.warmUp, 2/s.timing.warmUp.Seconds())
	s.load.waitForAll(ctx, s.timing.late+s.transport.every)
	with, err := s.usage(ctx)
	if err != nil {
		return err
	}
	others := float64(s.count - 1)
	s.add(0, memoryIdle, (with.memory-s.empty.memory)/others)
	s.add(0, files, (with.files-s.empty.files)/others)
	s.add(0, goroutines, (with.goroutines-s.empty.goroutines)/others)
	err = s.windows(ctx)
	s.add(0, lost, float64(s.load.lost.Load()+s.load.missing()))
	s.add(0, doubled, float64(s.load.doubled.Load()))
	if s.cuts && err == nil {
		s.measureCuts(ctx)
	}
	return err
}

// fillTail writes records of other users until the server's tail is full, which is three quarters of the cache. Otherwise the
// tail would grow in the windows and count as memory of the clients.
func (s *session) fillTail(ctx context.Context) error {
	const metric, size, users = "herald_kafka_records_total", 4 << 10, 100
	before := s.server.metric(ctx, metric)
	var list []*kgo.Record
	for i := range s.cache / size {
		list = append(list, &kgo.Record{Topic: s.topic, Key: []byte("other-" + strconv.Itoa(i%users)), Value: make([]byte, size)})
	}
	if err := s.kafka.ProduceSync(ctx, list...).FirstErr(); err != nil {
		return fmt.Errorf("fill the server's tail: %w", err)
	}
	for end := time.Now().Add(s.timing.open); !(s.server.metric(ctx, metric) >= before+float64(len(list))); { // also while it is not known
		if time.Now().After(end) {
			return fmt.Errorf("the server has not read %d records after %v", len(list), s.timing.open)
		}
		if sleep(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	_, err := s.server.liveMemory() // collects the buffers of these reads
	return err
}

// errNotLive says that clients get no stream, or no answer to a poll.
var errNotLive = errors.New("not all clients are live")

// windows measures without records, and then at each rate up to the first that is not reached.
func (s *session) windows(ctx context.Context) error {
	for _, rate := range append([]float64{0}, s.rates...) {
		if err := s.window(ctx, rate); err != nil {
			return err
		}
	}
	return nil
}

// usage returns what the server has now.
func (s *session) usage(ctx context.Context) (usage, error) {
	memory, err := s.server.liveMemory()
	return usage{memory, s.server.files(), s.server.metric(ctx, "go_goroutines")}, err
}

// counters are what grows in a window.
type counters struct {
	at               time.Time
	server, tool     time.Duration
	busy             float64 // seconds of all cores, in which any process ran
	wire             uint64
	requests, events int64
}

func (s *session) counters() counters {
	events := s.load.events.Load() // first, so that the bytes of each counted record are counted too
	return counters{time.Now(), s.server.cpu(), cpuOf(os.Getpid()), busySeconds(), s.load.wire.total(), s.load.requests.Load(), events}
}

// windowLength returns how long a window lasts: timing.window, or a little more, so that each client makes the same number
// of polls in it. When there are few records, each client has the same number of heartbeats, or of long polls that
// nothing has ended.
func (s *session) windowLength(rate float64) time.Duration {
	period := s.transport.every
	if rate == 0 && s.setting.isProxied() {
		return s.timing.idleProxied
	}
	if rate < 0.1 && period == 0 {
		period = max(s.transport.wait, s.timing.heartbeat)
	}
	if s.transport.http2 && period == 0 {
		period = s.timing.heartbeat // the server pings each connection as often
	}
	if period == 0 {
		return s.timing.window
	}
	return (s.timing.window + period - 1).Truncate(period)
}

// window writes records at the rate and measures. Clients that poll first get records at this rate for one
// interval, so that each answer in the window brings the records of a whole interval.
func (s *session) window(ctx context.Context, rate float64) error {
	length := s.windowLength(rate)
	if rate > 0 && s.transport.every > 0 {
		s.load.write(ctx, s.kafka, s.topic, s.count, s.transport.every, rate)
	}
	s.load.measureLatencies()
	peak := s.server.watchMemory(ctx)
	before := s.counters()
	if rate > 0 {
		s.load.write(ctx, s.kafka, s.topic, s.count, length, rate)
	} else {
		sleep(ctx, length)
	}
	after := s.counters()
	// A server that is alive may take no CPU in a short window without records.
	if after.server <= before.server && math.IsNaN(s.server.metric(ctx, "go_goroutines")) {
		return errors.New("the server has ended")
	}
	largest := peak()
	seconds := after.at.Sub(before.at).Seconds()
	clientSeconds := float64(s.count) * seconds
	cpu := (after.server - before.server).Seconds() - s.base*seconds // the server reads from Kafka without clients too
	bytes := float64(after.wire - before.wire)
	s.add(rate, memoryPeak, (largest-s.empty.memory)/float64(s.count-1))
	s.add(rate, cpuServer, cpu*1e6/clientSeconds)
	s.add(rate, cpuClient, (after.tool-before.tool).Seconds()*1e6/clientSeconds)
	s.add(rate, wireMinute, bytes/clientSeconds*60)
	asked := float64(after.requests - before.requests)
	s.add(rate, requests, asked/clientSeconds*60)
	s.add(rate, machineBusy, (after.busy-before.busy)/seconds)
	if rate == 0 {
		return nil
	}
	events := float64(after.events - before.events)
	reached := events / (rate * clientSeconds)
	if s.transport.every > 0 {
		reached = min(reached, asked/(clientSeconds/s.transport.every.Seconds())) // an overloaded machine polls less
	}
	overloaded := events == 0 // then there are no values for each event
	if rate*clientSeconds >= leastForReached {
		s.add(rate, delivered, reached)
		overloaded = reached < sustained
	}
	s.load.waitForAll(ctx, s.timing.late+s.transport.every)
	if overloaded || s.load.missing() > 0 {
		return errNotReached
	}
	s.add(rate, cpuEvent, cpu*1e6/events)
	s.add(rate, wireEvent, bytes/events)
	s.addLatencies(s.setting, rate)
	memory, err := s.server.liveMemory()
	s.add(rate, memoryAfter, (memory-s.empty.memory)/float64(s.count-1))
	return errors.Join(err, ctx.Err())
}

// leastForP99 is how many records a 99th percentile needs to be more than the largest value.
const leastForP99 = 500

// leastForReached is how many records a window must have to say that the rate is not reached. Of fewer, many more than a
// tenth may wait for the next poll when the window ends.
const leastForReached = 1000

// addLatencies adds the latencies of all records since the window has begun.
func (s *session) addLatencies(where setting, rate float64) {
	p50, p99, count := s.load.latencies.take()
	if count > 0 {
		s.addIn(where, rate, latencyP50, p50)
	}
	if count >= leastForP99 {
		s.addIn(where, rate, latencyP99, p99)
	}
}

// measureCuts resets each connection every timing.cutEvery, each at a time of its own, while records are written.
func (s *session) measureCuts(ctx context.Context) {
	s.load.measureLatencies()
	_, _, _ = s.load.liveAgain.take()
	lostBefore, doubledBefore := s.load.lost.Load()+s.load.missing(), s.load.doubled.Load()
	cutting, stop := context.WithTimeout(ctx, s.timing.cutFor)
	defer stop()
	var all sync.WaitGroup
	for _, c := range s.load.clients {
		all.Go(func() {
			sleep(cutting, rand.N(s.timing.cutEvery)) //nolint:gosec // no secret
			for cutting.Err() == nil {
				c.cut()
				sleep(cutting, s.timing.cutEvery)
			}
		})
	}
	s.load.write(ctx, s.kafka, s.topic, s.count, s.timing.cutFor, 1)
	all.Wait()
	s.load.waitForAll(ctx, s.timing.late+s.transport.every)
	s.addIn(cuts, 1, lost, float64(s.load.lost.Load()+s.load.missing()-lostBefore))
	s.addIn(cuts, 1, doubled, float64(s.load.doubled.Load()-doubledBefore))
	s.addLatencies(cuts, 1)
	if p50, p99, count := s.load.liveAgain.take(); count > 0 {
		s.addIn(cuts, 1, liveAgainP50, p50)
		s.addIn(cuts, 1, liveAgainP99, p99)
	}
}
