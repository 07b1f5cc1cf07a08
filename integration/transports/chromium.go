package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium.
type browser struct {
	ctx   context.Context //nolint:containedctx // chromedp's tabs are contexts
	close func()
	dir   string // its profile
}

// startBrowser starts a Chromium that has one tab, which is blank.
func startBrowser(ctx context.Context) (*browser, error) {
	path, err := exec.LookPath(cmp.Or(os.Getenv("HERALD_CHROMIUM"), "chromium"))
	if err != nil {
		return nil, fmt.Errorf("find Chromium: %w", err)
	}
	dir, err := os.MkdirTemp("", "transports-chromium")
	if err != nil {
		return nil, err
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.DisableGPU, chromedp.Flag("disable-component-update", true),
		chromedp.Flag("ignore-certificate-errors", true))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses root
	}
	allocated, stop := chromedp.NewExecAllocator(ctx, options...)
	tab, cancel := chromedp.NewContext(allocated)
	b := &browser{ctx: tab, dir: dir, close: func() { cancel(); stop(); _ = os.RemoveAll(dir) }}
	if err := chromedp.Do(tab); err != nil {
		b.close()
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return b, nil
}

// loadTimeout is how long a page may load. A page does not load while the browser has no connection left for it.
const loadTimeout = 20 * time.Second

// open shows the address in a new tab. It loads the page again if Chromium gave the load up because the machine's network
// had changed, as it does when a container starts.
func (b *browser) open(address string) (tab context.Context, err error) {
	tab, _ = chromedp.NewContext(b.ctx) // ends with the browser
	if err := chromedp.Do(tab); err != nil {
		return nil, fmt.Errorf("open a tab: %w", err)
	}
	ctx, cancel := context.WithTimeout(tab, loadTimeout)
	defer cancel()
	err = chromedp.Do(ctx, chromedp.Navigate(address))
	for err != nil && strings.Contains(err.Error(), "net::ERR_NETWORK_CHANGED") {
		err = chromedp.Do(ctx, chromedp.Navigate(address))
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", address, err)
	}
	return tab, nil
}

// receivedOf returns how many events the page of a tab has received.
func receivedOf(tab context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(tab, 5*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[int]("window.received"))
}

// processes returns the processes of the browser: the one with its profile in the command line, and all below it.
func (b *browser) processes() (pids []int) {
	parents := make(map[int]int)
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		stat, err := os.ReadFile(filepath.Join(dir, "stat")) //nolint:gosec // below /proc
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // state, parent, …
		parents[pid], _ = strconv.Atoi(fields[1])
		if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && bytes.Contains(line, []byte("--user-data-dir="+b.dir+"\x00")) { //nolint:gosec // below /proc
			pids = append(pids, pid)
		}
	}
	for found := true; found; {
		found = false
		for pid, parent := range parents {
			if slices.Contains(pids, parent) && !slices.Contains(pids, pid) {
				pids, found = append(pids, pid), true
			}
		}
	}
	return pids
}

// watch returns the CPU time that all processes of the browser take in a time, and the median of their memory. It looks
// each second, so that a process that ends counts until then, and for the memory every ten seconds.
func (b *browser) watch(ctx context.Context, d time.Duration) (sum time.Duration, memory float64) {
	samples := []float64{b.memory()}
	last := make(map[int]time.Duration)
	look := func(begin bool) {
		for _, pid := range b.processes() {
			now := cpuOf(pid)
			if !begin {
				sum += max(0, now-last[pid])
			}
			last[pid] = now
		}
	}
	look(true)
	end := time.Now().Add(d)
	for n := 1; time.Now().Before(end) && ctx.Err() == nil; n++ {
		sleep(ctx, min(time.Second, time.Until(end)))
		if look(false); n%10 == 0 {
			samples = append(samples, b.memory())
		}
	}
	f, _ := figureOf(samples)
	return sum, f.median
}

// memory returns the proportional set size (proc_pid_smaps(5)) of all processes of the browser, in bytes.
func (b *browser) memory() (sum float64) {
	for _, pid := range b.processes() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		_, after, found := strings.Cut(string(text), "\nPss:")
		if !found {
			return math.NaN()
		}
		kilobytes, _ := strconv.ParseFloat(strings.Fields(after)[0], 64)
		sum += kilobytes * 1024
	}
	return sum
}
