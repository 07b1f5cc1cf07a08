package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"herald/cmd/herald/tail"
	"herald/cmd/herald/visible"
)

// Names of the Prometheus client's process collector.
const (
	metricMemory = "process_resident_memory_bytes"
	metricCPU    = "process_cpu_seconds_total"
)

// clockTick is the unit of times in /proc/PID/stat: USER_HZ, 100 on every Linux that Go runs on.
const clockTick = 100

// maxReason bounds how much of a server's reason not to be ready is read, in bytes.
const maxReason = 4 << 10

// server reads the memory, the CPU time and the counters of the measured server from its metrics and
// from /proc. Without both it reads nothing.
type server struct {
	admin string
	pid   int
}

// sample holds the values of a server at one time. memory is in bytes and cpu in seconds. Both are NaN
// if they are not known.
type sample struct {
	memory, cpu float64
	goroutines  float64            // 0 if not known
	counters    map[string]float64 // metrics that begin with herald_, by name and labels
}

func (s *server) known() bool { return s.admin != "" || s.pid != 0 }

// read returns a sample.
func (s *server) read(ctx context.Context) (sample, error) {
	got := sample{memory: math.NaN(), cpu: math.NaN(), counters: make(map[string]float64)}
	if s.admin != "" {
		if err := s.scrape(ctx, &got); err != nil {
			return got, fmt.Errorf("--admin: %w", err)
		}
	}
	if s.pid != 0 {
		if err := s.readProc(&got); err != nil {
			return got, fmt.Errorf("--server-pid: %w", err)
		}
	}
	return got, nil
}

// scrape reads /metrics.
func (s *server) scrape(ctx context.Context, got *sample) error {
	res, err := s.ask(ctx, "/metrics")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := tail.RefusalText(res.Body)
		return fmt.Errorf("%s: %s%s", res.Request.URL, visible.Text(res.Status), text)
	}
	return parseMetrics(res.Body, got)
}

// ask requests a path of the admin listener. The caller closes the response's body.
func (s *server) ask(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.admin, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	return client.Do(req)
}

// unready returns why the server is not ready, as the end of an error's text, or where an operator finds the reason.
// A stream of such a server opens and does not begin. unready returns nothing if the server says that it is ready.
func (s *server) unready(ctx context.Context) string {
	const unknown = ": is the server ready? Its /readyz, on the admin listener (--admin), says so"
	if s.admin == "" {
		return unknown
	}
	res, err := s.ask(ctx, "/readyz?strict")
	if err != nil {
		return unknown
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxReason)) // a part of the reason is better than nothing
	switch res.StatusCode {
	case http.StatusOK:
		return ""
	case http.StatusServiceUnavailable:
		return ": the server is not ready: " + visible.Text(strings.TrimSpace(string(text)))
	default:
		return unknown
	}
}

// parseMetrics parses the text format of Prometheus as its Go client writes it.
func parseMetrics(r io.Reader, got *sample) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		end := strings.LastIndexByte(lines.Text(), ' ')
		if end < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		name := lines.Text()[:end]
		number, err := strconv.ParseFloat(lines.Text()[end+1:], 64)
		if err != nil {
			continue
		}
		switch {
		case name == metricMemory:
			got.memory = number
		case name == metricCPU:
			got.cpu = number
		case name == "go_goroutines":
			got.goroutines = number
		case strings.HasPrefix(name, "herald_") && !strings.Contains(name, "_bucket{"):
			got.counters[name] = number
		}
	}
	return lines.Err()
}

// readProc reads memory and CPU time from /proc (proc(5)).
func (s *server) readProc(got *sample) error {
	memory, err := s.readMemory()
	if err != nil {
		return err
	}
	got.memory = memory
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		return err
	}
	// The CPU times are fields 14 and 15. Field 2 is a name in parentheses, which may have spaces.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return errors.New("unknown format of /proc/PID/stat")
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	got.cpu = (user + system) / clockTick
	return errors.Join(err, err2)
}

// readMemory returns the resident memory in bytes.
func (s *server) readMemory() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, errors.New("unknown format of /proc/PID/statm")
	}
	pages, err := strconv.ParseFloat(fields[1], 64)
	return pages * float64(os.Getpagesize()), err
}

// waitSettled waits until the memory has changed by less than 1 % for two seconds, or until the limit
// has passed. It returns the last sample.
func (s *server) waitSettled(ctx context.Context, limit time.Duration) (sample, error) {
	const every, still = 500 * time.Millisecond, 4
	end := time.Now().Add(limit)
	first, err := s.read(ctx)
	got := first
	for unchanged := 0; err == nil && unchanged < still && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return got, nil
		case <-time.After(every):
		}
		got, err = s.read(ctx)
		if unchanged++; math.Abs(got.memory-first.memory) > first.memory/100 {
			first, unchanged = got, 0
		}
	}
	return got, err
}

// watchPeak watches the memory until the caller calls stop, which returns the largest memory seen.
func (s *server) watchPeak(ctx context.Context) (stop func() float64) {
	most := 0.0
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			wait := 250 * time.Millisecond // a scrape costs the server CPU time
			if s.pid != 0 {
				wait = 20 * time.Millisecond
				if memory, err := s.readMemory(); err == nil {
					most = max(most, memory)
				}
			} else if got, err := s.read(ctx); err == nil {
				most = max(most, got.memory)
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	})
	return func() float64 {
		cancel()
		watching.Wait()
		return most
	}
}

// changedCounters returns the counters that differ between two samples, and by how much.
func changedCounters(before, after sample) map[string]float64 {
	list := make(map[string]float64)
	for _, name := range slices.Sorted(maps.Keys(after.counters)) {
		if by := after.counters[name] - before.counters[name]; by != 0 {
			list[name] = by
		}
	}
	return list
}
