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
)

// Names of the Prometheus client's process collector.
const (
	metricMemory = "process_resident_memory_bytes"
	metricCPU    = "process_cpu_seconds_total"
)

// clockTick is the unit of times in /proc/PID/stat: USER_HZ, 100 on every Linux that Go runs on.
const clockTick = 100

// server reads the memory, the processor time and the counters of the server, from its metrics, from
// /proc, or not at all.
type server struct {
	admin string
	pid   int
}

// sample is a server at one time. Memory is in bytes, cpu in seconds; both are NaN if not known.
type sample struct {
	memory, cpu float64
	goroutines  float64            // 0: not known
	counters    map[string]float64 // herald_… by name and labels
}

func (s *server) known() bool { return s.admin != "" || s.pid != 0 }

// read takes a sample.
func (s *server) read(ctx context.Context) (sample, error) {
	got := sample{memory: math.NaN(), cpu: math.NaN(), counters: make(map[string]float64)}
	if s.admin != "" {
		if err := s.scrape(ctx, &got); err != nil {
			return got, fmt.Errorf("--admin: %w", err)
		}
	}
	if s.pid != 0 {
		if err := s.proc(&got); err != nil {
			return got, fmt.Errorf("--server-pid: %w", err)
		}
	}
	return got, nil
}

// scrape reads /metrics.
func (s *server) scrape(ctx context.Context, got *sample) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.admin, "/")+"/metrics", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", req.URL, res.Status)
	}
	return parseMetrics(res.Body, got)
}

// parseMetrics reads Prometheus' text format as the Go client writes it.
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

// proc reads /proc (proc(5)).
func (s *server) proc(got *sample) error {
	memory, err := s.procMemory()
	if err != nil {
		return err
	}
	got.memory = memory
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		return err
	}
	// Fields 14 and 15; the second is a name in brackets, which may have spaces in it.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return errors.New("unknown format of /proc/PID/stat")
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	got.cpu = (user + system) / clockTick
	return errors.Join(err, err2)
}

// procMemory is the resident memory in bytes.
func (s *server) procMemory() (float64, error) {
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

// settled waits until memory has stopped to change, by less than 1 % in two seconds, for as long as
// the limit says at most.
func (s *server) settled(ctx context.Context, limit time.Duration) (sample, error) {
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

// peak watches the memory until stop is called, which returns the most that was seen.
func (s *server) peak(ctx context.Context) (stop func() float64) {
	most := 0.0
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			wait := 250 * time.Millisecond // a scrape costs the server some work
			if s.pid != 0 {
				wait = 20 * time.Millisecond
				if memory, err := s.procMemory(); err == nil {
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

// moved is by how much the counters differ that do.
func moved(before, after sample) map[string]float64 {
	list := make(map[string]float64)
	for _, name := range slices.Sorted(maps.Keys(after.counters)) {
		if by := after.counters[name] - before.counters[name]; by != 0 {
			list[name] = by
		}
	}
	return list
}
