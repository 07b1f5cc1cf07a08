package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// requireBrowsers is the environment variable that makes a missing browser a failure.
const requireBrowsers = "HERALD_REQUIRE_BROWSERS"

// browser is a browser that tests start without a driver: a page does the work and reports to the test.
type browser struct {
	name     string
	variable string   // environment variable with its path
	paths    []string // names in PATH, or patterns of paths
	display  bool     // wants an X display
	args     func(profile string) []string
}

var chromium = browser{
	name: "Chromium", variable: "HERALD_CHROMIUM",
	paths: []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell"},
	args: func(profile string) []string {
		args := []string{"--headless", "--disable-gpu", "--disable-component-update", "--user-data-dir=" + profile}
		if os.Geteuid() == 0 {
			args = append(args, "--no-sandbox") // Chromium's sandbox refuses root
		}
		return args
	},
}

var firefox = browser{
	name: "Firefox", variable: "HERALD_FIREFOX", paths: []string{"firefox-esr", "firefox"},
	args: func(profile string) []string { return []string{"--headless", "--no-remote", "--profile", profile} },
}

// webKit is WebKitGTK's own small browser, which distributions keep out of PATH.
var webKit = browser{
	name: "WebKitGTK", variable: "HERALD_MINIBROWSER", display: true,
	paths: []string{"MiniBrowser", "/usr/lib/*/webkit2gtk-4.*/MiniBrowser", "/usr/libexec/webkit2gtk-4.*/MiniBrowser"},
	args:  func(string) []string { return []string{"--private"} },
}

// path returns where the browser is, or "".
func (b *browser) path() string {
	if path := os.Getenv(b.variable); path != "" {
		return path
	}
	for _, name := range b.paths {
		if found, _ := filepath.Glob(name); filepath.IsAbs(name) && len(found) > 0 { // the patterns are good
			return found[0]
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// require returns the browser's path. Without the browser it skips the test; what names the thing not tested.
func (b *browser) require(t *testing.T, what string) string {
	t.Helper()
	path := b.path()
	if path == "" {
		notTested(t, requireBrowsers, fmt.Sprintf("%s in %s. Install it, or set %s to its path.", what, b.name, b.variable))
	}
	return path
}

// open starts a fresh browser with the page; it is killed at the end of the test.
func (b *browser) open(t *testing.T, page string) {
	t.Helper()
	path := b.require(t, "native EventSource")
	home := t.TempDir()
	environment := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
	if b.display {
		environment = append(environment, "DISPLAY="+startDisplay(t))
	}
	startTool(t, environment, nil, path, append(b.args(home), page)...)
}

// startDisplay starts an X server in memory and returns its display.
func startDisplay(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("Xvfb")
	if err != nil {
		notTested(t, requireBrowsers, "native EventSource in WebKitGTK. Install Xvfb, the X server that it wants.")
	}
	number, told, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer number.Close() //nolint:errcheck // what was wanted has been read
	startTool(t, nil, told, path, "-displayfd", "3", "-screen", "0", "800x600x24", "-nolisten", "tcp")
	_ = told.Close()
	if err := number.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(number).ReadString('\n')
	if err != nil {
		t.Fatalf("start Xvfb: %v", err)
	}
	return ":" + strings.TrimSpace(line)
}

// startTool starts a process. At the end of the test it kills the process and all processes that the process has
// started. If file is not nil, the process has it as file descriptor 3.
func startTool(t *testing.T, environment []string, file *os.File, path string, args ...string) {
	t.Helper()
	printed := new(output)
	command := exec.Command(path, args...) //nolint:noctx // killed at the end
	command.Env, command.Stdout, command.Stderr = environment, printed, printed
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.WaitDelay = patience // it waits for all processes that can print
	if file != nil {
		command.ExtraFiles = []*os.File{file}
	}
	if err := command.Start(); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s\n%s", path, printed.String())
		}
	})
}
