package bench

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report holds the results of a measurement. Times are in seconds and sizes in bytes. The JSON leaves
// out phases that were not measured.
type Report struct {
	Server  string  `json:"server"`
	Streams int     `json:"streams"`
	Users   int     `json:"users"`
	Stalled int     `json:"stalled_streams"`
	Rate    int     `json:"rate"`
	Size    int     `json:"size_bytes"`
	Opens   float64 `json:"opens_per_second"`

	Idle  *Idle  `json:"idle,omitempty"`
	Live  *Phase `json:"live,omitempty"`
	Storm *Phase `json:"storm,omitempty"`
	Bare  *Bare  `json:"bare,omitempty"`

	// The following counts cover all phases, and all streams except the stalled ones.
	Lost       uint64           `json:"lost"`
	Duplicates int64            `json:"duplicates"`
	OutOfOrder int64            `json:"out_of_order"`
	Foreign    int64            `json:"foreign_events"`
	Gaps       map[string]int64 `json:"gaps"`
	Ends       map[string]int64 `json:"ends"`
	Retried    map[string]int64 `json:"retried"`

	// Counters holds each herald_ metric of the server that changed, and by how much.
	Counters    map[string]float64 `json:"server_metrics,omitempty"`
	ToolCPU     float64            `json:"tool_cpu_seconds"`
	ToolRSS     float64            `json:"tool_rss_bytes,omitempty"` // after the last phase
	Interrupted bool               `json:"interrupted"`
}

// Idle is the server's memory without streams and with all streams, before the first record.
type Idle struct {
	Before    float64 `json:"rss_before_bytes"`
	RSS       float64 `json:"rss_bytes"`
	PerStream float64 `json:"rss_per_stream_bytes"`
}

// Phase holds the results of a phase in which records were delivered.
type Phase struct {
	Records     uint64   `json:"records"`
	Events      int64    `json:"events"`
	Seconds     float64  `json:"seconds"` // from the first record, or reconnection, to the last event
	PerSecond   float64  `json:"events_per_second"`
	EventBytes  float64  `json:"bytes_per_event"`
	PerRead     float64  `json:"events_per_read"` // of the tool's reads; above 1 if several events arrive together
	Latency     *Latency `json:"latency_seconds,omitempty"`
	CPUPerEvent float64  `json:"server_cpu_seconds_per_event,omitempty"`
	RSSPeak     float64  `json:"rss_peak_bytes,omitempty"`
	Growth      *Growth  `json:"growth,omitempty"`
	Saturated   bool     `json:"saturated"` // written as fast as delivered
}

// Growth is the server's memory and goroutines at the start and at the end of a phase in which neither
// should grow.
type Growth struct {
	RSSBefore        float64 `json:"rss_before_bytes"`
	RSSAfter         float64 `json:"rss_after_bytes"`
	GoroutinesBefore float64 `json:"goroutines_before,omitempty"` // only with --admin
	GoroutinesAfter  float64 `json:"goroutines_after,omitempty"`
}

// newGrowth returns nil if the server's memory is not known.
func newGrowth(before, after sample) *Growth {
	if math.IsNaN(before.memory) || math.IsNaN(after.memory) {
		return nil
	}
	return &Growth{before.memory, after.memory, before.goroutines, after.goroutines}
}

// Latency is the time from handing a record to the Kafka client until its event is read from the socket.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// Bare compares the server with a bare loop of write(2).
type Bare struct {
	Phase
	Ratio    float64 `json:"events_per_second_ratio"` // the server's rate divided by the loop's
	CPURatio float64 `json:"cpu_per_event_ratio,omitempty"`
}

// Problems says how many events were lost, repeated or out of order. It returns "" if none was.
func (r *Report) Problems() string {
	if r.Lost == 0 && r.Duplicates == 0 && r.OutOfOrder == 0 {
		return ""
	}
	return fmt.Sprintf("%d events lost, %d twice, %d out of order", r.Lost, r.Duplicates, r.OutOfOrder)
}

func latencyOf(r *results) *Latency {
	at := func(q float64) float64 { return float64(r.latency.ValueAtQuantile(q)) / 1e6 }
	return &Latency{at(50), at(99), at(99.9), float64(r.latency.Max()) / 1e6}
}

// Print writes the report as a table for people.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) // Flush returns the error
	}
	row("streams", "%d of %d users at %s%s", r.Streams, r.Users, r.Server, also(", and %d stalled streams", r.Stalled))
	row("opened", "%.0f a second", r.Opens)
	if r.Idle != nil {
		row("server's memory", "%s, %s before: %.1f KiB for each idle stream", mebibytes(r.Idle.RSS), mebibytes(r.Idle.Before), r.Idle.PerStream/1024)
	}
	if p := r.Live; p != nil {
		row("delivered", "%.0f events a second: %d of %d records in %.1f s", p.PerSecond, p.Events, p.Records, p.Seconds)
		row("latency", "%s", p.Latency)
		p.printCost(row)
	}
	if p := r.Storm; p != nil {
		row("storm", "all caught up after %.2f s: %d events of %d records, %.0f a second", p.Seconds, p.Events, p.Records, p.PerSecond)
		p.printCost(row)
	}
	if b := r.Bare; b != nil {
		row("bare write loop", "%.0f events a second, latency %s", b.PerSecond, b.Latency)
		b.printCost(row)
		row("server : bare loop", "%s", b.verdict(r.Live.Saturated))
	}
	row("lost, twice, out of order", "%d, %d, %d", r.Lost, r.Duplicates, r.OutOfOrder)
	for _, list := range []struct {
		name   string
		counts map[string]int64
	}{{"gap events", r.Gaps}, {"streams ended by the server", r.Ends}, {"connections tried again", r.Retried}} {
		for _, reason := range slices.Sorted(maps.Keys(list.counts)) {
			row(list.name, "%d: %s", list.counts[reason], reason)
		}
	}
	if r.Foreign > 0 {
		row("events of others", "%d", r.Foreign)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Counters)) {
		row(name, "%+.0f", r.Counters[name])
	}
	row("this tool", "%.1f s of CPU, %s of memory", r.ToolCPU, mebibytes(r.ToolRSS))
	if r.Interrupted {
		row("interrupted", "the report covers the time until then")
	}
	return t.Flush()
}

// printCost prints the sizes of a phase, and the CPU and memory that it cost the server if they are
// known.
func (p *Phase) printCost(row func(name, format string, args ...any)) {
	parts := []string{fmt.Sprintf("%.0f bytes an event, %.1f events a read", p.EventBytes, p.PerRead)}
	if p.CPUPerEvent > 0 {
		parts = append(parts, fmt.Sprintf("%.1f µs of CPU for each event", p.CPUPerEvent*1e6))
	}
	if p.RSSPeak > 0 {
		parts = append(parts, mebibytes(p.RSSPeak)+" of memory at most")
	}
	row("", "%s", strings.Join(parts, ", "))
	if g := p.Growth; g != nil {
		text := fmt.Sprintf("memory %s before, %s after", mebibytes(g.RSSBefore), mebibytes(g.RSSAfter))
		if g.GoroutinesAfter > 0 {
			text += fmt.Sprintf("; goroutines %.0f before, %.0f after", g.GoroutinesBefore, g.GoroutinesAfter)
		}
		row("", "%s", text)
	}
}

func (b *Bare) verdict(saturated bool) string {
	text := fmt.Sprintf("%.0f %% of its events a second", 100*b.Ratio)
	if !saturated {
		text += " at this --rate (--rate 0 for the most)"
	}
	if b.CPURatio > 0 {
		text += fmt.Sprintf(", %.1f times its CPU for each event", b.CPURatio)
	}
	return text
}

// String returns the latency in milliseconds.
func (l *Latency) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, max %s", ms(l.P50), ms(l.P99), ms(l.P999), ms(l.Max))
}

func ms(seconds float64) string { return fmt.Sprintf("%.3g ms", seconds*1e3) }

func mebibytes(bytes float64) string { return fmt.Sprintf("%.1f MiB", bytes/(1<<20)) }

// also returns the text with the number in it, or "" for 0.
func also(format string, n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(format, n)
}

// newPhase computes the results of a phase.
func newPhase(got *results, records uint64, start, end time.Time, before, after sample) *Phase {
	p := &Phase{Records: records, Events: got.events - got.duplicates, Latency: latencyOf(got)}
	if p.Events == 0 {
		return p
	}
	p.Seconds = end.Sub(start).Seconds()
	p.PerSecond = float64(p.Events) / p.Seconds
	p.EventBytes = float64(got.bytes) / float64(got.events)
	p.PerRead = float64(got.events) / float64(got.reads)
	if cpu := after.cpu - before.cpu; !math.IsNaN(cpu) {
		p.CPUPerEvent = cpu / float64(p.Events)
	}
	return p
}
