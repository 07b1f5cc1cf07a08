package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// table is a table of the document: a row for each transport, a column for each measure, number of clients and rate that
// were measured and that it wants.
type table struct {
	name     string
	setting  setting
	measures []measure
	clients  int     // 0: each number of clients
	rate     float64 // allRates: each rate
}

const (
	allRates = -1
	// middle is the number of clients with which all transports are measured.
	middle = 1000
	// notMeasured stands where the results have nothing.
	notMeasured = "Not measured yet.\n"
)

var tables = []table{
	{"memory", direct, []measure{memoryIdle}, 0, 0},
	{"memory-peak", direct, []measure{memoryPeak}, middle, allRates},
	{"held", direct, []measure{files, goroutines}, middle, 0},
	{"memory-after", direct, []measure{memoryAfter}, middle, allRates},
	{"busy", direct, []measure{machineBusy, cpuClient}, middle, allRates},
	{"cpu", direct, []measure{cpuServer}, middle, allRates},
	{"cpu-event", direct, []measure{cpuEvent}, middle, allRates},
	{"cpu-clients", direct, []measure{cpuServer}, 0, 1},
	{"wire", direct, []measure{wireMinute, wireEvent}, middle, allRates},
	{"requests", direct, []measure{requests}, middle, allRates},
	{"latency", direct, []measure{latencyP50, latencyP99}, middle, allRates},
	{"latency-clients", direct, []measure{latencyP50, latencyP99}, 0, 1},
	{"cuts", cuts, []measure{lost, doubled, liveAgainP50, liveAgainP99, latencyP50, latencyP99}, 0, allRates},
	{"nginx", nginx, []measure{works, requests, cpuServer, latencyP50, latencyP99}, 0, allRates},
	{"nginx-upgrade", upgraded, []measure{works, requests, cpuServer, latencyP50, latencyP99}, 0, allRates},
	{"chromium", chromium, []measure{pageCPU, pageMemory, tabsReceiving}, 0, allRates},
}

// titles are the headings of columns, with the unit of the figures; scales is the size of the unit if it is not 1.
var (
	titles = map[measure]string{
		memoryIdle: "idle memory, KiB", memoryPeak: "largest memory, KiB", memoryAfter: "memory after it, KiB", machineBusy: "busy cores", files: "open files", goroutines: "goroutines",
		cpuServer: "CPU, µs a client and second", cpuEvent: "CPU, µs an event", cpuClient: "the load tool's CPU, µs a client and second",
		wireMinute: "bytes a client and minute", wireEvent: "an event, bytes", requests: "requests a client and minute",
		latencyP50: "p50, ms", latencyP99: "p99, ms", lost: "lost", doubled: "doubled",
		liveAgainP50: "live again p50, ms", liveAgainP99: "live again p99, ms", works: "works",
		pageCPU: "CPU, ms a minute", pageMemory: "memory, MiB", tabsReceiving: "of seven tabs receive",
	}
	scales = map[measure]float64{memoryIdle: 1 << 10, memoryPeak: 1 << 10, memoryAfter: 1 << 10, pageMemory: 1 << 20}
)

// wants reports whether the point belongs to the table.
func (t table) wants(p point) bool {
	return p.setting == t.setting && slices.Contains(t.measures, p.measure) &&
		(t.clients == 0 || t.clients == p.clients) && (t.rate == allRates || t.rate == p.rate)
}

// columns returns the points of the table's columns, without transports.
func (t table) columns(c comparison) (list []point) {
	for p := range c {
		p.transport = ""
		if t.wants(p) && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b point) int {
		return cmp.Or(
			cmp.Compare(slices.Index(t.measures, a.measure), slices.Index(t.measures, b.measure)),
			cmp.Compare(a.clients, b.clients),
			cmp.Compare(a.rate, b.rate))
	})
	return list
}

// markdown returns the table as GitHub shows it.
func (t table) markdown(c comparison) string {
	columns := t.columns(c)
	if len(columns) == 0 {
		return notMeasured
	}
	head := []string{""}
	for _, p := range columns {
		head = append(head, t.title(p, columns))
	}
	rows := [][]string{head}
	for _, name := range c.names(t.wants) {
		row := []string{"`" + name + "`"}
		for _, p := range columns {
			row = append(row, c.cell(p, name))
		}
		rows = append(rows, row)
	}
	return markdownRows(rows)
}

// title returns the heading of a column: the measure, and the clients and the rate if the measure's columns differ in
// them.
func (t table) title(p point, columns []point) string {
	parts := []string{titles[p.measure]}
	differ := func(other func(point) bool) bool {
		return slices.ContainsFunc(columns, func(q point) bool { return q.measure == p.measure && other(q) })
	}
	if differ(func(q point) bool { return q.clients != p.clients }) {
		parts = append(parts, number(float64(p.clients))+" clients")
	}
	if differ(func(q point) bool { return q.rate != p.rate }) {
		parts = append(parts, rateText(p.rate))
	}
	return strings.Join(parts, "; ")
}

// rateText returns the rate of one client's records.
func rateText(rate float64) string {
	if rate == 0 {
		return "idle"
	}
	return number(rate) + "/s"
}

// cell returns the figure of a transport: the median, the spread, and = if sse has the same within the spread.
func (c comparison) cell(p point, transport string) string {
	p.transport = transport
	if !c.reached(p) {
		return "not reached"
	}
	f, ok := c.figure(p)
	if !ok {
		return ""
	}
	text := f.scaled(cmp.Or(scales[p.measure], 1)).String()
	p.transport = "sse"
	exact := []measure{works, lost, doubled, tabsReceiving}
	if base, ok := c.figure(p); ok && transport != "sse" && f.equals(base) && c.reached(p) && !slices.Contains(exact, p.measure) {
		return "= " + text
	}
	return text
}

// String returns the median, and the lowest and the highest value if they differ from it.
func (f figure) String() string {
	median, low, high := number(f.median), number(f.low), number(f.high)
	if low == high {
		return median
	}
	return median + " (" + low + " – " + high + ")"
}

// number returns three digits of a number, or all digits of the part before the point.
func number(v float64) string {
	if v == 0 {
		return "0"
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	text := strconv.FormatFloat(v, 'f', min(digits, 4), 64)
	whole, fraction, _ := strings.Cut(text, ".")
	fraction = strings.TrimRight(fraction, "0")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction == "" {
		return whole
	}
	return whole + "." + fraction
}

// markdownRows returns a table. The first row is its head.
func markdownRows(rows [][]string) string {
	var out strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&out, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
	return out.String()
}
