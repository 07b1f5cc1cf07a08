package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestManyStreams opens 19,000 streams in one process and writes records for the time that HERALD_SOAK sets. No
// record may be lost, and neither memory nor the number of goroutines may grow. Without HERALD_SOAK, the test is
// short and opens 2,000 streams.
func TestManyStreams(t *testing.T) {
	length, streams := "10s", "2000"
	if text := os.Getenv("HERALD_SOAK"); text != "" {
		if _, err := time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		length, streams = text, "19000"
	}
	command := exec.CommandContext(t.Context(), heraldBinary(t), "bench", "--self", "--streams="+streams, "--rate=1000", "--duration="+length, "--json=-")
	command.Env = []string{}
	var said bytes.Buffer
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		t.Fatalf("herald bench: %v\n%s\n%s", err, out, said.String())
	}
	var report struct {
		Live struct {
			Events int64
			Growth struct {
				Before     float64 `json:"rss_before_bytes"`
				After      float64 `json:"rss_after_bytes"`
				Goroutines float64 `json:"goroutines_before"`
				Later      float64 `json:"goroutines_after"`
			}
		}
		Lost, Duplicates int64
		OutOfOrder       int64 `json:"out_of_order"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	g := report.Live.Growth
	t.Logf("%s streams for %s: %d events; lost %d, twice %d, out of order %d; memory %.1f MiB before, %.1f MiB after; goroutines %.0f before, %.0f after",
		streams, length, report.Live.Events, report.Lost, report.Duplicates, report.OutOfOrder, g.Before/(1<<20), g.After/(1<<20), g.Goroutines, g.Later)
	if report.Live.Events == 0 || g.Before == 0 || g.Goroutines == 0 {
		t.Fatalf("the report lacks figures that the test needs: %s", out)
	}
	// The garbage collector lets the heap grow to its goal first. A leak of goroutines or of a few bytes for each
	// event would exceed these bounds.
	if g.After > 1.25*g.Before+16<<20 {
		t.Errorf("memory grew from %.0f to %.0f bytes", g.Before, g.After)
	}
	if g.Later > g.Goroutines+50 {
		t.Errorf("goroutines grew from %.0f to %.0f", g.Goroutines, g.Later)
	}
}
