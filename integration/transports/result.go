package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
)

// setting is where a value was measured.
type setting string

const (
	direct   setting = "direct"        // clients of the load tool, connected to Herald
	cuts     setting = "cuts"          // the same, and each connection is cut every 10 s
	nginx    setting = "nginx"         // the same, through nginx in its default configuration
	upgraded setting = "nginx-upgrade" // through nginx with the lines that WebSocket needs
	chromium setting = "chromium"      // pages in Chromium
)

// isProxied reports whether the clients reach the server through nginx.
func (s setting) isProxied() bool { return s == nginx || s == upgraded }

// measure names a quantity.
type measure string

// The measures. A window is the time for which a rate lasts.
const (
	memoryIdle    measure = "memory_idle"    // bytes a client: growth of the server's resident memory without garbage, clients idle after two records each
	files         measure = "files"          // open files of the server a client, clients idle
	goroutines    measure = "goroutines"     // goroutines of the server a client, clients idle
	memoryPeak    measure = "memory_peak"    // bytes a client: largest growth of the server's resident memory in the window
	memoryAfter   measure = "memory_after"   // bytes a client: growth of the server's memory after the window, without garbage
	machineBusy   measure = "machine_busy"   // cores of the machine that any process used in the window
	cpuServer     measure = "cpu_server"     // µs of the server's CPU a client and second
	cpuEvent      measure = "cpu_event"      // µs of the server's CPU in the window, divided by the events; likewise
	cpuClient     measure = "cpu_client"     // µs of the load tool's CPU a client and second, with the writing of the records
	wireMinute    measure = "wire_minute"    // bytes a client and minute, both directions, with TLS and headers down to IPv4
	wireEvent     measure = "wire_event"     // the same bytes in the window, divided by the events
	requests      measure = "requests"       // requests a client and minute
	latencyP50    measure = "latency_p50"    // ms from the producer to the client
	latencyP99    measure = "latency_p99"    // likewise
	delivered     measure = "delivered"      // part of the window's records that had arrived when the window ended, of those due by then
	lost          measure = "lost"           // records that never arrived
	doubled       measure = "doubled"        // records that arrived again
	liveAgainP50  measure = "live_again_p50" // ms from a cut until the client is live again
	liveAgainP99  measure = "live_again_p99" // likewise
	works         measure = "works"          // 1: all events arrive, half of them within a second and the interval of a poll; 0: they do not
	pageCPU       measure = "page_cpu"       // ms of the browser's CPU a minute, all its processes
	pageMemory    measure = "page_memory"    // bytes: growth of the memory of the browser's processes (PSS) by the page
	tabsReceiving measure = "tabs_receiving" // how many of seven tabs receive an event within 30 s and the interval of a poll
)

// result is one value of one run.
type result struct {
	Run       int // counts the runs of the whole comparison, from 1
	Setting   setting
	Transport string // name of a transport; for Chromium, of a page
	Clients   int
	Rate      float64 // records a second and client; 0: none
	Measure   measure
	Value     float64
}

var header = []string{"run", "setting", "transport", "clients", "rate", "measure", "value"}

// writeResults appends results to CSV (RFC 4180). The first line is the header if head is true.
func writeResults(w io.Writer, head bool, list ...result) error {
	out := csv.NewWriter(w)
	if head {
		_ = out.Write(header) // Error returns the error
	}
	for _, r := range list {
		_ = out.Write([]string{
			strconv.Itoa(r.Run), string(r.Setting), r.Transport, strconv.Itoa(r.Clients),
			strconv.FormatFloat(r.Rate, 'g', -1, 64), string(r.Measure), strconv.FormatFloat(r.Value, 'g', 6, 64),
		})
	}
	out.Flush()
	return out.Error()
}

// readResults reads what writeResults has written. The error names the line.
func readResults(r io.Reader) (list []result, err error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = len(header)
	for {
		fields, err := in.Read()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := in.FieldPos(0)
		if fields[0] == header[0] {
			continue
		}
		got := result{Setting: setting(fields[1]), Transport: fields[2], Measure: measure(fields[5])}
		var errs [4]error
		got.Run, errs[0] = strconv.Atoi(fields[0])
		got.Clients, errs[1] = strconv.Atoi(fields[3])
		got.Rate, errs[2] = strconv.ParseFloat(fields[4], 64)
		got.Value, errs[3] = strconv.ParseFloat(fields[6], 64)
		for _, err := range errs {
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
		}
		list = append(list, got)
	}
}
