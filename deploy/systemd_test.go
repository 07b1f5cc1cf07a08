package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// mostExposed is the most exposure that systemd-analyze may find in the unit; 100 is a service without any protection.
const mostExposed = "20"

// TestSystemdUnits has systemd check the units, and rate how much of the system the service can reach.
func TestSystemdUnits(t *testing.T) {
	const analyze = "systemd-analyze"
	lookTool(t, analyze)
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"herald.service", "herald.socket"} {
		text, err := os.ReadFile("systemd/" + name) //nolint:gosec // a file of the repository
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		text = regexp.MustCompile(`/usr/bin/herald\b`).ReplaceAll(text, []byte("/bin/true")) // verify wants the program to exist
		if err := os.WriteFile(file, text, 0o600); err != nil {                              //nolint:gosec // a test's file
			t.Fatal(err)
		}
		files = append(files, file)
	}
	out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--man=no"}, files...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, dir) || strings.Contains(line, "herald") || err != nil {
			t.Error(strings.TrimSpace(line))
		}
	}
	runTool(t, analyze, "security", "--offline=true", "--no-pager", "--threshold="+mostExposed, files[0])
}

// TestStopTimeout wants the time that systemd gives the service to stop to be longer than the drain and the last commit.
func TestStopTimeout(t *testing.T) {
	text, err := os.ReadFile("systemd/herald.service")
	if err != nil {
		t.Fatal(err)
	}
	operating, err := os.ReadFile("OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	stop := regexp.MustCompile(`(?m)^TimeoutStopSec=(.+)$`).FindSubmatch(text)
	drain := regexp.MustCompile("\\| `--drain-timeout` \\| `([^`]+)` \\|").FindSubmatch(operating)
	if stop == nil || drain == nil {
		t.Fatalf("TimeoutStopSec=%s, --drain-timeout %s", stop, drain)
	}
	patience, err := time.ParseDuration(string(stop[1]))
	if err != nil {
		t.Fatal(err)
	}
	if most, err := time.ParseDuration(string(drain[1])); err != nil || patience < most+10*time.Second {
		t.Errorf("TimeoutStopSec=%v, want 10 s more than --drain-timeout, %v", patience, most)
	}
}
