package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocumentShowsResults compares the tables of TRANSPORTS.md and the pictures with results.csv. While the results have
// no values, the document must say so, and there must be no pictures.
func TestDocumentShowsResults(t *testing.T) {
	c, err := readComparison("results/results.csv")
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile("../../stream/TRANSPORTS.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := fillDocument(string(document), c)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(document)); diff != "" {
		t.Errorf("TRANSPORTS.md does not show the results (-want +got); run: go run ./integration/transports report --document stream/TRANSPORTS.md\n%s", diff)
	}
	svgs, err := drawPictures(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, svg := range svgs {
		got, err := os.ReadFile("results/" + name + ".svg") //nolint:gosec // a constant name
		if err != nil || !bytes.Equal(got, svg) {
			t.Errorf("results/%s.svg does not show the results (%v)", name, err)
		}
	}
	files, err := filepath.Glob("results/*.svg")
	if err != nil || len(files) != len(svgs) {
		t.Errorf("pictures %v (%v), want %d", files, err, len(svgs))
	}
}

// TestPicturesOfOddResults draws results that a logarithmic axis has no place for.
func TestPicturesOfOddResults(t *testing.T) {
	for name, value := range map[string]float64{"zero": 0, "negative": -1, "all the same": 1} {
		t.Run(name, func(t *testing.T) {
			var list []result
			for _, rate := range []float64{0, 0.01, 1} {
				for _, transport := range []string{"sse", "poll-1s"} {
					for _, m := range []measure{memoryIdle, cpuServer, wireMinute, wireEvent, latencyP50} {
						list = append(list, result{1, direct, transport, middle, rate, m, value})
					}
				}
			}
			list = append(list, result{1, chromium, "blank", 1, 1, pageCPU, value})
			c := newComparison(list)
			svgs, err := drawPictures(c)
			if err != nil {
				t.Fatal(err)
			}
			blocks := blocks(c)
			for _, p := range pictures {
				if _, drawn := svgs[p.name]; drawn == (blocks["picture "+p.name] == notMeasured) {
					t.Errorf("picture %s: drawn %v, but the document has %q", p.name, drawn, blocks["picture "+p.name])
				}
			}
		})
	}
}

// costsOf returns results of one run: a cost of CPU that is a + b × rate.
func costsOf(run int, transport string, a, b float64) (list []result) {
	for _, rate := range []float64{0, 0.01, 1, 10} {
		list = append(list, result{run, direct, transport, middle, rate, cpuServer, a + b*rate})
	}
	return list
}

func TestBreakEven(t *testing.T) {
	cpu := cpuCost
	tests := map[string]struct {
		poll, stream [2]float64 // idle, and for each record
		want         string
	}{
		"polling costs more when idle, and less for each record": {[2]float64{9, 1}, [2]float64{1, 5}, "above 2/s"},
		"polling costs less when idle":                           {[2]float64{1, 5}, [2]float64{2, 3}, "below one in 2 s"},
		"polling always costs less":                              {[2]float64{1, 1}, [2]float64{2, 2}, "everywhere"},
		"polling never costs less":                               {[2]float64{2, 2}, [2]float64{1, 1}, "nowhere"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var list []result
			for run := 1; run <= 3; run++ {
				list = append(list, costsOf(run, "poll-1s", test.poll[0], test.poll[1])...)
				list = append(list, costsOf(run, "sse", test.stream[0], test.stream[1])...)
			}
			if got := newComparison(list).breakEvenCell("poll-1s", "sse", cpu); got != test.want {
				t.Errorf("polling costs less %q, want %q", got, test.want)
			}
		})
	}
	list := append(costsOf(1, "poll-1s", 1, 1), costsOf(1, "sse", 2, 2)...)
	list = append(append(list, costsOf(2, "poll-1s", 2, 2)...), costsOf(2, "sse", 1, 1)...)
	if got := newComparison(list).breakEvenCell("poll-1s", "sse", cpu); got != "= within the spread" {
		t.Errorf("runs that disagree: %q", got)
	}
}

// TestInterval has polls that cost 60 each, and 0 besides.
func TestInterval(t *testing.T) {
	for stream, want := range map[float64]string{100: "1 s or less", 30: "2 s", 6: "10 s", 1: "60 s", 0.1: "more than 2.5 min", 0: "more than 30 s"} {
		list := costsOf(1, "sse", stream, 0)
		list = append(list, costsOf(1, "poll-1s", 60, 0)...)
		list = append(list, costsOf(1, "poll-5s", 12, 0)...)
		list = append(list, costsOf(1, "poll-30s", 2, 0)...)
		if got := newComparison(list).intervalCell("sse", cpuCost, 0); got != want {
			t.Errorf("a stream that costs %v: every %q, want %q", stream, got, want)
		}
	}
	list := costsOf(1, "sse", 0, 1)
	for poll, cost := range map[string]float64{"poll-1s": 60, "poll-5s": 12, "poll-30s": 2} {
		list = append(list, costsOf(1, poll, cost, 0)...)
	}
	if got, want := newComparison(list).intervalCell("sse", cpuCost, 1), "more than 30 s"; got != want {
		t.Errorf("a stream that costs 1 at one record a second: every %q, want %q", got, want)
	}
}

func TestCells(t *testing.T) {
	at := func(transport string, m measure, values ...float64) (list []result) {
		for i, v := range values {
			list = append(list, result{i + 1, direct, transport, middle, 1, m, v})
		}
		return list
	}
	list := at("sse", cpuServer, 10, 12, 11)
	list = append(list, at("ws", cpuServer, 12, 13, 14)...)
	list = append(list, at("longpoll", cpuServer, 20, 22, 21)...)
	list = append(list, at("poll-1s", cpuServer, 1, 1, 1)...)
	list = append(list, at("poll-1s", delivered, 0.5, 0.8, 1)...)
	c := newComparison(list)
	for transport, want := range map[string]string{
		"sse": "11 (10 – 12)", "ws": "= 13 (12 – 14)", "longpoll": "21 (20 – 22)", "poll-1s": "not reached", "poll-5s": "",
	} {
		if got := c.cell(point{direct, "", middle, 1, cpuServer}, transport); got != want {
			t.Errorf("%s: %q, want %q", transport, got, want)
		}
	}
}

func TestResultsAreReadAsWritten(t *testing.T) {
	want := []result{{1, direct, "sse", 100, 0.01, latencyP50, 0.4}, {3, chromium, "ws", 1, 1, pageMemory, 12e6}}
	var file bytes.Buffer
	for i, r := range want {
		if err := writeResults(&file, i == 0, r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readResults(&file)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("results differ (%v, -want +got):\n%s", err, diff)
	}
}
