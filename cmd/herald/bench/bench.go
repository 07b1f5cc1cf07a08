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

// Run measures a server. When ctx ends, Run writes no more records, waits for the records under way,
// and reports the results so far. The error says why something could not be measured. Records that are
// lost, repeated or out of order are not an error: see [Report.Problems].
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
	report.ToolRSS, _ = (&server{pid: os.Getpid()}).readMemory() // 0 on systems without /proc
	_ = r.takeResults()
	report.Lost, report.Duplicates, report.OutOfOrder = r.lost(), r.total.duplicates, r.total.outOfOrder
	report.Foreign, report.Gaps, report.Ends, report.Retried = r.total.foreign, r.total.gaps, r.total.ends, r.retriedCounts()
	if report.Live != nil && len(cfg.Bare) > 0 && ctx.Err() == nil {
		r.close() // its streams would take CPU from the loop
		if report.Bare, err = r.measureBare(ctx, report.Live); err != nil {
			return nil, fmt.Errorf("--bare: %w", err)
		}
	}
	report.ToolCPU = cpuSeconds()
	return report, nil
}

// errInterrupted reports that the user has ended the measurement.
var errInterrupted = errors.New("interrupted")

// phases runs the phases of the measurement in their order.
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
	if report.Opens, err = r.openAll(srv); err != nil {
		return err
	}
	if srv.known() {
		r.doing("idle")
		with, err := srv.waitSettled(r.interrupted, r.cfg.Settle)
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
	report.Counters = changedCounters(first, after)
	return err
}

// begin takes the first sample of the server, and connects to Kafka if there are records to write.
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

// stall keeps the stalled streams full until the caller calls stop.
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

// live writes records at the rate and measures until all are delivered. Before that it writes one
// record for each user, which creates missing topics and shows that the server serves them.
func (r *run) live(srv *server, w *writer) (*Phase, error) {
	r.doing("first records")
	w.writeRound()
	if err := w.flush(); err != nil {
		return nil, err
	}
	if err := r.waitFor(r.ctx, "not all of the first records arrive", r.unique, r.expected()); err != nil {
		if _, stuck := errors.AsType[*stuckError](err); stuck && r.unique() == 0 {
			return nil, fmt.Errorf("%w: does the server serve topic %s of the cluster at --brokers?", err, w.records[0].Topic)
		}
		return nil, err
	}
	if r.cfg.Stalled > 0 {
		r.pauseFor(3 * time.Second) // the stalled streams fill up
	}
	_ = r.takeResults()
	before, err := srv.read(r.ctx)
	if err != nil {
		return nil, err
	}
	r.doing("live")
	written, start := r.records(), time.Now()
	w.writeSteadily(r.interrupted)
	if err := r.waitDelivered(w); err != nil {
		return nil, err
	}
	p, after, err := r.endPhase(srv, r.records()-written, start, before)
	if err == nil {
		p.Saturated, p.Growth = r.cfg.Rate == 0, newGrowth(before, after)
	}
	return p, err
}

// waitDelivered waits until every written record has arrived, or until none has arrived for as long as
// the patience.
func (r *run) waitDelivered(w *writer) error {
	if err := w.flush(); err != nil {
		return err
	}
	err := r.waitFor(r.ctx, "", r.unique, r.expected())
	if _, stuck := errors.AsType[*stuckError](err); stuck {
		return nil // the report counts the missing records as lost
	}
	time.Sleep(200 * time.Millisecond) // a repeated record arrives late
	return err
}

// endPhase returns the phase that has just ended and the server's sample at its end.
func (r *run) endPhase(srv *server, records uint64, start time.Time, before sample) (*Phase, sample, error) {
	after, err := srv.read(r.ctx)
	if err != nil {
		return nil, after, err
	}
	got := r.takeResults()
	return newPhase(&got, records, start, r.lastEvent(), before, after), after, nil
}

// storm cuts all streams, writes records that they miss, opens the streams again, and measures how long
// they take to catch up.
func (r *run) storm(srv *server, w *writer) (*Phase, error) {
	r.doing("storm: writing records that the streams miss")
	var cut []*client
	for _, s := range r.streams[:r.cfg.Streams] {
		if r.cut(s) {
			cut = append(cut, s)
		}
	}
	written := r.records()
	for range r.cfg.Storm {
		w.writeRound()
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	records := r.records() - written
	r.pauseFor(time.Second) // the server notices the cut connections and reads past the records
	before, err := srv.read(r.ctx)
	if err != nil {
		return nil, err
	}
	_ = r.takeResults()
	r.doing("storm: opening all streams again")
	stop := func() float64 { return 0 }
	if srv.known() {
		stop = srv.watchPeak(r.ctx)
	}
	r.slots.Store(make(chan struct{}, len(r.streams)))
	start := time.Now()
	for _, s := range cut {
		r.queue <- s
	}
	err = r.waitDelivered(w)
	peak := stop()
	if err != nil {
		return nil, err
	}
	p, _, err := r.endPhase(srv, records, start, before)
	if err == nil {
		p.RSSPeak, p.Saturated, p.Latency = peak, true, nil // the latency would contain the time of the cut
	}
	return p, err
}

// pauseFor waits for d, or until the user ends the measurement.
func (r *run) pauseFor(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.interrupted.Done():
	}
}

// doing sets the stage that the progress lines name.
func (r *run) doing(stage string) { r.stage.Store(stage) }

// progress writes a line every second until the caller calls stop.
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
