package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// maxCompressed bounds the module as a bundler delivers it: in one file without comments and with short names, after
// gzip -9. The files in this directory are for readers.
const maxCompressed = 6 << 10

// TestSize bundles and compresses the module.
func TestSize(t *testing.T) {
	bundle := run(t, filepath.Join("node_modules", ".bin", "esbuild"), "--bundle", "--minify", "--format=esm", "--target=es2022", "herald.js")
	var compressed bytes.Buffer
	w, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bundle); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("the module has %d bytes, compressed, of %d", compressed.Len(), maxCompressed)
	if compressed.Len() > maxCompressed {
		t.Errorf("the module has %d bytes, compressed, want %d at most", compressed.Len(), maxCompressed)
	}
}

// TestModule runs the tests of the module's files in Node.js.
func TestModule(t *testing.T) {
	t.Logf("%s", run(t, "node", "--test"))
}

// TestTypes checks the types of the module's users: the examples, and uses that the types must refuse.
func TestTypes(t *testing.T) {
	run(t, filepath.Join("node_modules", ".bin", "tsc"))
}

// run runs a program of the module's tests in this directory, and returns its output. It skips the test if Node.js or
// the packages of package.json are missing.
func run(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	version, err := exec.CommandContext(t.Context(), "node", "--version").Output() // v20.20.2
	if err != nil {
		skip(t, "the module for pages: no node")
	}
	if major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), "."); len(major) < 2 || major < "20" {
		skip(t, fmt.Sprintf("the module for pages: node %s is older than 20", bytes.TrimSpace(version)))
	}
	for _, needed := range []string{"node_modules", program} {
		if _, err := os.Stat(needed); err != nil && needed != "node" {
			skip(t, "the module for pages: packages are missing; run npm ci in stream/client")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	var errors bytes.Buffer
	command := exec.CommandContext(ctx, program, args...)
	command.Stderr = &errors
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out, errors.Bytes())
	}
	return out
}

// said is whether a reason has been written: all tests have the same one.
var said atomic.Bool

// skip skips the test, or fails it if HERALD_REQUIRE_LANGUAGES is 1. It writes the reason to the file that
// HERALD_TEST_SKIPS names, which make test prints.
func skip(t *testing.T, what string) {
	t.Helper()
	line := "NOT TESTED: " + what
	if os.Getenv("HERALD_REQUIRE_LANGUAGES") == "1" {
		t.Fatal(line)
	}
	if name := os.Getenv("HERALD_TEST_SKIPS"); name != "" && said.CompareAndSwap(false, true) {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0) //nolint:gosec // make test names the file
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() //nolint:errcheck // a line that is missing is no failure
		_, _ = fmt.Fprintln(f, line)
	}
	t.Skip(line)
}
