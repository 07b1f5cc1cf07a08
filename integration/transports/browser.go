package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// browserCommand measures pages in Chromium.
type browserCommand struct {
	Brokers []string      `required:"" env:"HERALD_BENCH_BROKER" help:"Kafka's brokers."`
	Runs    int           `default:"3" help:"How many times to measure everything."`
	First   int           `default:"1" help:"The number of the first run, to add runs to a file."`
	For     time.Duration `default:"5m" help:"How long the pages are open."`
	Rate    float64       `default:"1" help:"Records a second. Each page must get at least one while it is measured."`
	Out     string        `default:"integration/transports/results/results.csv" help:"File that the results are appended to."`
}

const (
	blankPage  = "blank" // has no connection
	pageWarmUp = 15 * time.Second
	tabs       = 7                // one more than the connections over HTTP/1.1 that browsers open to an origin
	tabsWait   = 30 * time.Second // and for polls their interval
)

// pageTransports are the transports that pages have.
var pageTransports = []string{"sse", "sse-h2", "ws", "longpoll", "poll-1s", "poll-5s", "poll-30s"}

// Run implements the command.
func (b *browserCommand) Run(ctx context.Context) error {
	kafka, err := kgo.NewClient(kgo.SeedBrokers(b.Brokers...), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer kafka.Close()
	s, stop, err := startSite(ctx, b, kafka)
	if err != nil {
		return err
	}
	defer stop()
	for n := b.First; n < b.First+b.Runs; n++ {
		list, err := s.measurePages(ctx, n)
		if err != nil {
			return err
		}
		for _, name := range pageTransports {
			receiving, err := s.countTabs(ctx, name)
			if err != nil {
				return err
			}
			list = append(list, result{n, chromium, name, tabs, b.Rate, tabsReceiving, float64(receiving)})
		}
		if err := appendResults(b.Out, list); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(os.Stderr, "run %d, %s\n", n, chromium)
	}
	return nil
}

// site is two servers with pages, without TLS and with it, and the records for them.
type site struct {
	run       *browserCommand
	kafka     *kgo.Client
	topic     string
	addresses []string
}

// startSite makes a topic, starts the servers, and writes records until stop is called.
func startSite(ctx context.Context, run *browserCommand, kafka *kgo.Client) (s *site, stop func(), err error) {
	s = &site{run: run, kafka: kafka, topic: fmt.Sprintf("pages-%d", time.Now().UnixNano())}
	admin := kadm.NewClient(kafka)
	if _, err := admin.CreateTopic(ctx, 4, 1, nil, s.topic); err != nil {
		return nil, nil, fmt.Errorf("create a topic: %w", err)
	}
	var servers []*child
	writing, cancel := context.WithCancel(ctx)
	var written sync.WaitGroup
	stop = func() {
		cancel()
		written.Wait()
		for _, server := range servers {
			server.stop()
		}
		_, _ = admin.DeleteTopic(context.WithoutCancel(ctx), s.topic)
	}
	for _, tls := range []bool{false, true} {
		server, err := startServer(ctx, run.Brokers, s.topic, tls)
		if err != nil {
			stop()
			return nil, nil, err
		}
		servers, s.addresses = append(servers, server), append(s.addresses, server.address)
	}
	written.Go(func() { s.write(writing) })
	return s, stop, nil
}

// write writes records for the user of all pages.
func (s *site) write(ctx context.Context) {
	for number := uint64(1); ctx.Err() == nil; number++ {
		s.kafka.Produce(ctx, &kgo.Record{Topic: s.topic, Key: []byte(userName(0)), Value: appendNotification(nil, userName(0), number, time.Now())}, nil)
		sleep(ctx, time.Duration(float64(time.Second)/s.run.Rate))
	}
}

// url returns the address of the page of a transport.
func (s *site) url(name string) string {
	query := url.Values{"user": {userName(0)}, "protocol": {blankPage}}
	scheme, address := "http", s.addresses[0]
	if t, err := transportOf(name); err == nil {
		query.Set("protocol", map[protocol]string{sse: "sse", webSocket: "ws", poll: "poll"}[t.protocol])
		query.Set("wait", t.wait.String())
		query.Set("every", strconv.FormatInt(t.every.Milliseconds(), 10))
		if t.tls {
			scheme, address = "https", s.addresses[1]
		}
	}
	return scheme + "://" + address + pagePath + "?" + query.Encode()
}

// measurePages opens a page of each transport, and a blank one. All are open at the same time, each in a browser of its
// own, so other work of the machine concerns all of them alike.
func (s *site) measurePages(ctx context.Context, n int) (list []result, err error) {
	names := append([]string{blankPage}, pageTransports...)
	cpu, memory := make([]time.Duration, len(names)), make([]float64, len(names))
	errs := make([]error, len(names))
	browsers := make([]*browser, len(names))
	tabs := make([]context.Context, len(names))
	for i, name := range names {
		if browsers[i], err = startBrowser(ctx); err != nil {
			return nil, err
		}
		defer browsers[i].close()
		if tabs[i], err = browsers[i].open(s.url(name)); err != nil {
			return nil, err
		}
	}
	sleep(ctx, pageWarmUp)
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			cpu[i], memory[i], errs[i] = s.measurePage(ctx, browsers[i], tabs[i], name)
		})
	}
	all.Wait()
	for i, name := range names[1:] {
		list = append(list,
			result{n, chromium, name, 1, s.run.Rate, pageCPU, (cpu[i+1] - cpu[0]).Seconds() * 1000 / s.run.For.Minutes()},
			result{n, chromium, name, 1, s.run.Rate, pageMemory, memory[i+1] - memory[0]})
	}
	return list, errors.Join(errs...)
}

// measurePage returns the CPU time and the memory of a browser with one page, which must receive records.
func (s *site) measurePage(ctx context.Context, b *browser, tab context.Context, name string) (cpu time.Duration, memory float64, err error) {
	before, err := receivedOf(tab)
	if err != nil {
		return 0, 0, fmt.Errorf("the page of %s: %w", name, err)
	}
	cpu = b.watchCPU(ctx, s.run.For)
	memory = b.memory()
	after, err := receivedOf(tab)
	if err == nil && after == before && name != blankPage {
		err = errors.New("it has received nothing")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("the page of %s: %w", name, err)
	}
	return cpu, memory, nil
}

// countTabs opens tabs of one origin in one browser, each with a connection of its own, and returns how many of them
// receive an event.
func (s *site) countTabs(ctx context.Context, name string) (receiving int, err error) {
	b, err := startBrowser(ctx)
	if err != nil {
		return 0, err
	}
	defer b.close()
	var all [tabs]context.Context
	for i := range all {
		if all[i], err = b.open(s.url(name)); err != nil {
			_, _ = fmt.Fprintf(os.Stderr, "  tab %d: %v\n", i+1, err) // it receives nothing
		}
	}
	t, err := transportOf(name)
	if err != nil {
		return 0, err
	}
	for end := time.Now().Add(tabsWait + t.every); receiving < tabs && time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, time.Second) {
		receiving = 0
		for _, tab := range all {
			if tab == nil {
				continue
			}
			if n, err := receivedOf(tab); err == nil && n > 0 {
				receiving++
			}
		}
	}
	return receiving, nil
}
