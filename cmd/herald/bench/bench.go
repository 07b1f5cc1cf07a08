package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"
)

// Run measures. When ctx ends, no more records are written, those under way are waited for, and the
// report is of what was done until then. The error says why something could not be measured; that
// records were lost, or came twice or out of order, is none, but [Report.Problems] tells it.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	r, err := newRun(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return nil, err
	}
	defer r.close()
	r.interrupted = ctx
	r.doing("connecting")
	defer r.progress()()
	report := &Report{
		Server: r.to.url.Redacted(), Streams: cfg.Streams, Users: r.readers(), Stalled: cfg.Stalled, Rate: cfg.Rate, Size: cfg.Size,
	}
	if err := r.phases(report); err != nil && !errors.Is(err, errInterrupted) {
		return nil, err
	}
	report.Interrupted = ctx.Err() != nil
	report.ToolRSS, _ = (&server{pid: os.Getpid()}).procMemory() // 0 where there is no /proc
	_ = r.takeResults()
	report.Lost, report.Duplicates, report.OutOfOrder = r.lost(), r.total.duplicates, r.total.outOfOrder
	report.Foreign, report.Gaps, report.Ends, report.Retried = r.total.foreign, r.total.gaps, r.total.ends, r.retriedCounts()
	if report.Live != nil && len(cfg.Bare) > 0 && ctx.Err() == nil {
		r.close() // its sockets and what it still sends would be in the way
		if report.Bare, err = r.bare(ctx, report.Live); err != nil {
			return nil, fmt.Errorf("--bare: %w", err)
		}
	}
	report.ToolCPU = cpuSeconds()
	return report, nil
}

// errInterrupted says that the user wants no more.
var errInterrupted = errors.New("interrupted")

// phases measures one thing after the other.
func (r *run) phases(report *Report) error {
	srv := &server{r.cfg.Admin, r.cfg.PID}
	w, first, err := r.begin(srv)
	if err != nil {
		return err
	}
	if w != nil {
		defer w.client.Close()
	}
	r.doing("opening")
	if report.Opens, err = r.openAll(); err != nil {
		return err
	}
	if srv.known() {
		r.doing("idle")
		with, err := srv.settled(r.interrupted, r.cfg.Settle)
		if err != nil {
			return err
		}
		report.Idle = idle(first, with, len(r.streams))
	}
	if w != nil {
		defer r.stall(w)()
		if report.Live, err = r.live(srv, w); err != nil {
			return err
		}
		if r.cfg.Storm > 0 && r.interrupted.Err() == nil {
			if report.Storm, err = r.storm(srv, w); err != nil {
				return err
			}
		}
	}
	after, err := srv.read(r.ctx)
	report.Counters = moved(first, after)
	return err
}

// begin connects to Kafka, if records are to be written, and looks at the server.
func (r *run) begin(srv *server) (*writer, sample, error) {
	first, err := srv.read(r.ctx)
	if err != nil || len(r.cfg.Kafka) == 0 || r.cfg.Duration == 0 {
		return nil, first, err
	}
	w, err := newWriter(r)
	return w, first, err
}

func idle(before, with sample, streams int) *Idle {
	if math.IsNaN(before.memory + with.memory) {
		return nil
	}
	return &Idle{before.memory, with.memory, (with.memory - before.memory) / float64(streams)}
}

// stall fills the stalled streams until it is told to stop.
func (r *run) stall(w *writer) (stop func()) {
	if r.cfg.Stalled == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(r.ctx)
	var holding sync.WaitGroup
	holding.Go(func() { r.holdStalled(ctx, w) })
	return func() {
		cancel()
		holding.Wait()
	}
}

// live writes records at the rate and measures until they are delivered. One record for each user
// goes first: it makes topics that do not exist yet, and shows that the server serves them.
func (r *run) live(srv *server, w *writer) (*Phase, error) {
	r.doing("first records")
	w.round()
	if err := w.flush(); err != nil {
		return nil, err
	}
	if err := r.wait(r.ctx, "not all of the first records arrive", r.unique, r.expected()); err != nil {
		if _, stuck := errors.AsType[*stuckError](err); stuck && r.unique() == 0 {
			return nil, fmt.Errorf("%w: does the server serve topic %s of the cluster at --brokers?", err, w.records[0].Topic)
		}
		return nil, err
	}
	if r.cfg.Stalled > 0 {
		r.pauseFor(3 * time.Second) // until they are full
	}
	_ = r.takeResults()
	before, err := srv.read(r.ctx)
	if err != nil {
		return nil, err
	}
	r.doing("live")
	written, start := r.records(), time.Now()
	w.steady(r.interrupted)
	if err := r.delivered(w); err != nil {
		return nil, err
	}
	p, after, err := r.measured(srv, r.records()-written, start, before)
	if err == nil {
		p.Saturated, p.Growth = r.cfg.Rate == 0, growth(before, after)
	}
	return p, err
}

// delivered waits until all that was written has come, or is not going to.
func (r *run) delivered(w *writer) error {
	if err := w.flush(); err != nil {
		return err
	}
	err := r.wait(r.ctx, "", r.unique, r.expected())
	if _, stuck := errors.AsType[*stuckError](err); stuck {
		return nil // the report has it as lost
	}
	time.Sleep(200 * time.Millisecond) // what comes twice comes late
	return err
}

// measured is the phase that has just ended.
func (r *run) measured(srv *server, records uint64, start time.Time, before sample) (*Phase, sample, error) {
	after, err := srv.read(r.ctx)
	if err != nil {
		return nil, after, err
	}
	got := r.takeResults()
	return phase(&got, records, start, r.lastEvent(), before, after), after, nil
}

// storm cuts all streams, writes what they miss, and measures how long they take to catch up.
func (r *run) storm(srv *server, w *writer) (*Phase, error) {
	r.doing("storm: writing what is missed")
	var cut []*client
	for _, s := range r.streams[:r.cfg.Streams] {
		if r.cut(s) {
			cut = append(cut, s)
		}
	}
	written := r.records()
	for range r.cfg.Storm {
		w.round()
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	records := r.records() - written
	r.pauseFor(time.Second) // the server notices that they have gone, and reads on
	before, err := srv.read(r.ctx)
	if err != nil {
		return nil, err
	}
	_ = r.takeResults()
	r.doing("storm: all come back")
	stop := func() float64 { return 0 }
	if srv.known() {
		stop = srv.peak(r.ctx)
	}
	r.slots.Store(make(chan struct{}, len(r.streams)))
	start := time.Now()
	for _, s := range cut {
		r.queue <- s
	}
	err = r.delivered(w)
	peak := stop()
	if err != nil {
		return nil, err
	}
	p, _, err := r.measured(srv, records, start, before)
	if err == nil {
		p.RSSPeak, p.Saturated, p.Latency = peak, true, nil // records are as old as the time the streams were away
	}
	return p, err
}

// pauseFor waits, or until the user wants no more.
func (r *run) pauseFor(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.interrupted.Done():
	}
}

// doing says what is being done, for the progress.
func (r *run) doing(what string) { r.stage.Store(what) }

// progress writes a line every second until it is told to stop.
func (r *run) progress() (stop func()) {
	if r.cfg.Progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(r.ctx)
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for start, last := time.Now(), int64(0); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := r.unique()
			_, _ = fmt.Fprintf(r.cfg.Progress, "%3.0fs %s: %d of %d streams open, %d events, %d/s\n",
				time.Since(start).Seconds(), r.stage.Load(), r.ready(), r.cfg.Streams, now, now-last)
			last = now
		}
	})
	return func() {
		cancel()
		writing.Wait()
	}
}
