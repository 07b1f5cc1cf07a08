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
	measureFlags

	For  time.Duration `default:"5m" help:"How long the pages are open."`
	Rate float64       `default:"1" help:"Records a second. Each page must get at least one while it is measured."`
}

const (
	blankPage  = "blank" // has no connection
	pageWarmUp = 15 * time.Second
	tabs       = 7                // one more than the connections over HTTP/1.1 that browsers open to an origin
	tabsWait   = 30 * time.Second // and for polls their interval
)

// pageTransports are the transports that pages have.
var pageTransports = []string{"sse", "sse-h2", "ws", "longpoll", "poll-1s", "poll-5s", "poll-30s"}

// Validate implements kong.Validatable.
func (b *browserCommand) Validate() error {
	if !(b.Rate*b.For.Seconds() >= 1) {
		return errors.New("--rate and --for: want at least one record while the pages are open")
	}
	return nil
}

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
		server, err := startServer(ctx, run.Brokers, s.topic, tls, usualCache)
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
		s.kafka.Produce(ctx, &kgo.Record{Topic: s.topic, Key: []byte(userName(0)), Value: appendNotification(nil, userName(0), number, time.Now())}, func(_ *kgo.Record, err error) {
			if err != nil && ctx.Err() == nil {
				_, _ = fmt.Fprintf(os.Stderr, "  write to Kafka: %v\n", err)
			}
		})
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

// openPage is a page in a browser of its own.
type openPage struct {
	name    string
	browser *browser
	tab     context.Context //nolint:containedctx // chromedp's tabs are contexts

	cpu    time.Duration
	memory float64 // bytes
	err    error
}

// measurePages opens a page of each transport, and a blank one. All are open at the same time, so other work of the
// machine concerns all of them alike.
func (s *site) measurePages(ctx context.Context, n int) (list []result, err error) {
	var pages []*openPage
	for _, name := range append([]string{blankPage}, pageTransports...) {
		p := &openPage{name: name}
		if p.browser, err = startBrowser(ctx); err != nil {
			return nil, err
		}
		defer p.browser.close()
		if p.tab, err = p.browser.open(s.url(name)); err != nil {
			return nil, err
		}
		pages = append(pages, p)
	}
	sleep(ctx, pageWarmUp)
	var all sync.WaitGroup
	for _, p := range pages {
		all.Go(func() { p.measure(ctx, s.run.For) })
	}
	all.Wait()
	blank := pages[0]
	for _, p := range pages {
		switch {
		case p.err != nil:
			err = errors.Join(err, fmt.Errorf("the page of %s: %w", p.name, p.err))
		case p != blank:
			list = append(list,
				result{n, chromium, p.name, 1, s.run.Rate, pageCPU, (p.cpu - blank.cpu).Seconds() * 1000 / s.run.For.Minutes()},
				result{n, chromium, p.name, 1, s.run.Rate, pageMemory, p.memory - blank.memory})
		}
	}
	return list, err
}

// measure measures the browser for a time. A page that is not blank must receive records.
func (p *openPage) measure(ctx context.Context, d time.Duration) {
	before, err := receivedOf(p.tab)
	if err != nil {
		p.err = err
		return
	}
	p.cpu, p.memory = p.browser.watch(ctx, d)
	after, err := receivedOf(p.tab)
	if err == nil && after == before && p.name != blankPage {
		err = errors.New("it has received nothing")
	}
	p.err = err
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
