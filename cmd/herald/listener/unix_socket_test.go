package listener

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestUnixSocketReplacesStaleOne listens on paths where something is already. Only a socket that nobody listens on gives
// way.
func TestUnixSocketReplacesStaleOne(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    string // in the error; empty: it listens
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"stale", func(t *testing.T, path string) {
			t.Helper()
			l := occupy(t, path)
			l.SetUnlinkOnClose(false)
			_ = l.Close()
		}, ""},
		{"alive", func(t *testing.T, path string) { t.Helper(); occupy(t, path) }, "stop what listens there"},
		{"file", func(t *testing.T, path string) {
			t.Helper()
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a socket"},
		{"missing directory", func(t *testing.T, path string) {
			t.Helper()
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}, "create the directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := shortDir(t)
			path := filepath.Join(dir, "s")
			test.prepare(t, path)
			l, err := Listen(t.Context(), "unix:"+path)
			if test.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), "unix:"+path) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want the address and %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			file, err := os.Stat(path)
			if err != nil || file.Mode() != os.ModeSocket|0o660 {
				t.Errorf("%v, %v: want a socket of mode 0660", file.Mode(), err)
			}
			_ = dialUnix(t, path).Close()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("after Close: %v, want no file", err)
			}
		})
	}
}

// shortDir returns a directory whose name leaves room for a socket's name: t.TempDir has the test's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "h") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir)
}

func occupy(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dialUnix(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestAddresses wants addresses accepted, or the error to say what to write.
func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:80": "", ":0": "", "[::1]:8080": "", "unix:/run/herald.sock": "", "unix:herald.sock": "", "systemd": "",
		"127.0.0.1":                         "want HOST:PORT, such as 127.0.0.1:8080, unix:PATH or systemd",
		"host:66000":                        "the port is above 65535",
		"unix:":                             "such as unix:/run/herald/herald.sock",
		"unix:@abstract":                    "must not begin with @",
		"unix:/" + strings.Repeat("a", 107): "longer than",
		"/run/herald.sock":                  "unix:PATH",
		"systemd:public":                    "want HOST:PORT",
	} {
		err := CheckAddress(address, "127.0.0.1:8080")
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), address) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}

// TestJoinedListeners accepts from two listeners, and ends an Accept by Close.
func TestJoinedListeners(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	unix, err := Listen(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := join([]net.Listener{tcp, unix})
	for range 2 {
		dialUnix(t, path)
		dial(t, tcp.Addr().String())
		networks := map[string]bool{}
		for range 2 {
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			networks[conn.LocalAddr().Network()] = true
			_ = conn.Close()
		}
		if len(networks) != 2 {
			t.Errorf("connections of %v, want of both listeners", networks)
		}
	}
	if OnLoopback(l) || !OnLoopback(tcp) {
		t.Error("a Unix socket counts as loopback, or TCP on loopback does not")
	}
	ended := make(chan error)
	go func() { _, err := l.Accept(); ended <- err }()
	dialUnix(t, path) // may be accepted or not
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("accepted after Close")
	}
}

// TestUnixSocketHasOneListener has several listeners begin at once on a stale socket. None may remove the socket of another
// one, whose clients would then not find it.
func TestUnixSocketHasOneListener(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	for range 50 {
		stale := occupy(t, path)
		stale.SetUnlinkOnClose(false)
		_ = stale.Close()
		var listening sync.WaitGroup
		var mu sync.Mutex
		var all []net.Listener
		for range 8 {
			listening.Go(func() {
				if l, err := Listen(t.Context(), "unix:"+path); err == nil {
					mu.Lock()
					defer mu.Unlock()
					all = append(all, l)
				}
			})
		}
		listening.Wait()
		for _, l := range all {
			_ = l.Close()
		}
		if len(all) != 1 {
			t.Fatalf("%d listeners on one path, want 1", len(all))
		}
	}
}
