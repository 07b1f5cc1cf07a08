package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// child is the server of a session, in a process of its own.
type child struct {
	command *exec.Cmd
	stdin   io.WriteCloser
	lines   *bufio.Reader // its standard output
	address string        // of the streams
	admin   string
}

// startServer starts this program's command serve. cache is its --replay-cache-bytes.
func startServer(ctx context.Context, brokers []string, topic string, tls bool, cache int) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--brokers=" + strings.Join(brokers, ","), "--topic=" + topic, "--replay-cache-bytes=" + strconv.Itoa(cache)}
	if tls {
		args = append(args, "--tls")
	}
	c := &child{command: exec.CommandContext(context.WithoutCancel(ctx), self, args...)} //nolint:gosec // this program
	c.command.Stderr = os.Stderr
	out, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.stdin, err = c.command.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.command.Start(); err != nil {
		return nil, err
	}
	c.lines = bufio.NewReader(out)
	line, err := c.lines.ReadString('\n')
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("start the server: %w", err)
	}
	if _, err := fmt.Sscan(line, &c.address, &c.admin); err != nil {
		c.stop()
		return nil, fmt.Errorf("the server's addresses %q: %w", line, err)
	}
	return c, nil
}

// stop ends the server. Its streams are cut already, so it need not drain.
func (c *child) stop() {
	_ = c.stdin.Close()
	late := time.AfterFunc(5*time.Second, func() { _ = c.command.Process.Kill() })
	defer late.Stop()
	_ = c.command.Wait()
}

// cpu returns the CPU time of the process. The clock of a process counts in ns (clock_getcpuclockid(3)).
func (c *child) cpu() time.Duration { return cpuOf(c.command.Process.Pid) }

func cpuOf(pid int) time.Duration {
	const perProcess = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcess), &t); err != nil { //nolint:gosec // how the kernel numbers these clocks
		return 0
	}
	return time.Duration(t.Nano())
}

// memory returns the resident memory in bytes.
func (c *child) memory() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.command.Process.Pid))
	if fields := strings.Fields(string(text)); err == nil && len(fields) > 1 {
		pages, _ := strconv.ParseFloat(fields[1], 64)
		return pages * float64(os.Getpagesize())
	}
	return math.NaN()
}

// busySeconds returns for how many seconds the machine's cores together have run any process (proc_stat(5)).
func busySeconds() float64 {
	text, err := os.ReadFile("/proc/stat")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 9 {
		return math.NaN()
	}
	const perSecond = 100 // USER_HZ
	sum := 0.0
	for i, field := range fields[1:9] {
		if ticks, err := strconv.ParseFloat(field, 64); err == nil && i != 3 && i != 4 { // idle, waiting for disks
			sum += ticks / perSecond
		}
	}
	return sum
}

// files returns how many files the process has open.
func (c *child) files() float64 {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.command.Process.Pid))
	if err != nil {
		return math.NaN()
	}
	return float64(len(list))
}

// metric returns the value of one of the server's metrics that has no labels, or NaN.
func (c *child) metric(ctx context.Context, name string) float64 {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.admin+"/metrics", nil)
	if err != nil {
		return math.NaN()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return math.NaN()
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, _ := strconv.ParseFloat(text, 64)
			return n
		}
	}
	return math.NaN()
}

// liveMemory returns the resident memory without garbage.
func (c *child) liveMemory() (float64, error) {
	if _, err := io.WriteString(c.stdin, "\n"); err != nil {
		return 0, fmt.Errorf("ask the server to collect garbage: %w", err)
	}
	if _, err := c.lines.ReadString('\n'); err != nil {
		return 0, fmt.Errorf("the server has not collected garbage: %w", err)
	}
	return c.memory(), nil
}

// watchMemory returns a function that ends the watch and returns the largest memory since.
func (c *child) watchMemory(ctx context.Context) (peak func() float64) {
	ctx, cancel := context.WithCancel(ctx)
	most := c.memory()
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			sleep(ctx, 50*time.Millisecond)
			most = max(most, c.memory())
		}
	})
	return func() float64 {
		cancel()
		watching.Wait()
		return most
	}
}
