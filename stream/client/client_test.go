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
	"testing"
	"time"
)

// maxCompressed bounds the module, in bytes after gzip -9.
const maxCompressed = 6 << 10

// TestSize compresses the module's files as one.
func TestSize(t *testing.T) {
	entries, err := Scripts.ReadDir(".")
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v: want two files", entries, err)
	}
	var compressed bytes.Buffer
	w, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		content, err := Scripts.ReadFile(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
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
	run(t, "node", "--test")
}

// TestTypes checks the types of the module's users: the examples, and uses that the types must refuse.
func TestTypes(t *testing.T) {
	run(t, filepath.Join("node_modules", ".bin", "tsc"))
}

// run runs a program of the module's tests in this directory. It skips the test if Node.js or the packages of
// package.json are missing.
func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		skip(t, "the module for pages: no node")
	}
	if _, err := os.Stat("node_modules"); err != nil {
		skip(t, "the module for pages: no packages; run npm ci in stream/client")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	t.Logf("%s", out)
}

// skip skips the test, or fails it if HERALD_REQUIRE_LANGUAGES is 1. It writes the reason to the file that
// HERALD_TEST_SKIPS names, which make test prints.
func skip(t *testing.T, what string) {
	t.Helper()
	line := "NOT TESTED: " + what
	if os.Getenv("HERALD_REQUIRE_LANGUAGES") == "1" {
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
