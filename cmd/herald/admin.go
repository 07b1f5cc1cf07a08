package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"herald/cmd/herald/listener"
	"herald/cmd/herald/server"
)

// adminListenVariable is the environment variable of serve's flag --admin-listen.
const adminListenVariable = envPrefix + "_ADMIN_LISTEN"

// adminFlags say where the admin listener of a running server is. Commands that ask it embed them.
type adminFlags struct {
	Admin string `placeholder:"URL" help:"URL of the server's admin listener, such as http://127.0.0.1:8081 or unix:/run/herald/admin.sock. Default: the address in HERALD_ADMIN_LISTEN, or else http://127.0.0.1:8081."`
}

// check returns an error if --admin, or the variable in its place, does not name an admin listener.
func (a *adminFlags) check() error {
	_, err := a.address()
	return err
}

// address returns the URL of the admin listener, or unix:PATH for its Unix socket.
func (a *adminFlags) address() (string, error) {
	if a.Admin == "" {
		return addressOfListener(os.Getenv(adminListenVariable))
	}
	if _, isSocket := listener.UnixPath(a.Admin); isSocket {
		return a.Admin, nil
	}
	u, err := url.Parse(a.Admin)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", fmt.Errorf("--admin %q: want a URL without a path, such as http://127.0.0.1:8081", a.Admin)
	}
	return u.Scheme + "://" + u.Host, nil
}

// addressOfListener returns the address for a value of serve's --admin-listen; an empty value stands for the default.
func addressOfListener(listen string) (string, error) {
	if listen == "" {
		return "http://" + server.DefaultConfig().AdminListen, nil
	}
	if _, isSocket := listener.UnixPath(listen); isSocket {
		return listen, nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("%s=%q does not say where the admin listener is: give --admin URL", adminListenVariable, listen)
	}
	return "http://" + net.JoinHostPort(loopbackFor(host), port), nil
}

// loopbackFor returns the loopback address for a host that stands for all addresses of the machine, and other hosts
// unchanged.
func loopbackFor(host string) string {
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.Equal(net.IPv4zero):
		return "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		return "::1"
	}
	return host
}

// request sends a request to the admin listener. target is the request's path and query. The caller closes the body.
func (a *adminFlags) request(ctx context.Context, method, target string) (*http.Response, error) {
	base, err := a.address()
	if err != nil {
		return nil, usageError{err}
	}
	transport := &http.Transport{DisableKeepAlives: true}
	shown := base + target
	if path, ok := listener.UnixPath(base); ok {
		base = "http://localhost"
		transport.DialContext = dialUnix(path)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+target, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	begun := time.Now()
	res, err := client.Do(req)
	if err == nil {
		return res, nil
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%s %s: no answer within %v", method, shown, time.Since(begun).Round(time.Millisecond))
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return nil, fmt.Errorf("%s %s: %w: no server listens there: start it, or give its admin listener by --admin", method, shown, err)
	}
	return nil, fmt.Errorf("%s %s: %w", method, shown, err)
}

// dialUnix returns a function for [http.Transport] that connects to a Unix socket, whatever host the URL names.
func dialUnix(path string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
}
