package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// lookTool skips the test without the program, or fails it if HERALD_REQUIRE_TOOLS is 1. It writes the reason to the
// file that HERALD_TEST_SKIPS names, which make test prints.
func lookTool(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	line := fmt.Sprintf("NOT TESTED: %s: no %s", t.Name(), program)
	if os.Getenv("HERALD_REQUIRE_TOOLS") == "1" {
		t.Fatal(line)
	}
	if name := os.Getenv("HERALD_TEST_SKIPS"); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0) //nolint:gosec // make test names the file
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() //nolint:errcheck // a line that is missing is no failure
		_, _ = fmt.Fprintln(f, line)
	}
	t.Skip(line)
}

// runTool runs a program, which must succeed.
func runTool(t *testing.T, program string, args ...string) {
	t.Helper()
	lookTool(t, program)
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", program, args, err, out)
	}
}
