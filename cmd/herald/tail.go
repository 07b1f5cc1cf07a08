package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"herald/auth"
	"herald/auth/textfile"
	"herald/cmd/herald/listener"
	"herald/cmd/herald/tail"
)

type tailCommand struct {
	URL         string        `name:"url" default:"http://127.0.0.1:8080/events" placeholder:"URL" help:"Address of the stream. An address without a path, or with a base path that ends with a slash, gets /events. unix:PATH is the Unix socket of a server; with a base path, unix:PATH:/PREFIX/. Default: ${default}."`
	User        string        `placeholder:"NAME" help:"User whose stream to follow, for a server with --insecure-no-auth. Default: the user of the token."`
	Claim       []string      `placeholder:"NAME=VALUE" help:"A value that the user has of a claim, such as team=red, for a server with --insecure-no-auth and topics with claim=team. Repeat the flag, or separate several by commas. Default: the claims of the token."`
	TokenFile   string        `placeholder:"FILE" help:"File with a bearer token, one line of text. It is read again for each connection. Default: the token in the variable HERALD_TOKEN, or no token."`
	LastEventID string        `name:"last-event-id" placeholder:"ID" help:"Continue after the event with this id. Default: begin where --since says."`
	Since       string        `placeholder:"WHEN" help:"Begin at now, earliest, delivered, a time like 2026-01-31T08:00:00Z or an age like 90m. --last-event-id takes precedence. Default: now."`
	Types       []string      `placeholder:"TYPE" help:"Receive only events of these types, separated by commas. Records without a type have the type message. Default: all types."`
	CAFile      string        `name:"ca-file" placeholder:"FILE" help:"PEM file of the authorities that may sign the server's certificate. Default: the authorities of the system."`
	JSON        bool          `name:"json" help:"Print each event as one line of JSON with time, type, id and data. Default: text."`
	IDs         bool          `name:"ids" help:"Print the ids of events in the text too, and at the end the id to continue after. Default: no ids; JSON always has them."`
	All         bool          `help:"Print Herald's own events (checkpoint, gap, end) too. Default: only records."`
	IdleTimeout time.Duration `default:"60s" placeholder:"DURATION" help:"Reconnect when the connection is silent this long, without even a heartbeat. It must be longer than the server's heartbeat interval. Default: ${default}."`
}

// Help implements kong.HelpProvider.
func (*tailCommand) Help() string {
	return `Example:

    herald tail --user alice
    herald tail --user alice --since earliest --types news,message
    herald tail --url https://herald.example --token-file alice.token
    herald tail --url https://localhost:8443 --ca-file ca.pem --token-file alice.token

Standard output has the events. Standard error has one line when the stream is open, and a line for each reconnection, gap and end.`
}

// Validate implements kong.Validatable.
func (t *tailCommand) Validate() error {
	if t.IdleTimeout <= 0 {
		return fmt.Errorf("--idle-timeout=%v: want more than 0, such as 60s", t.IdleTimeout)
	}
	if _, err := auth.ParseClaims(t.Claim); err != nil {
		return fmt.Errorf("--claim %w", err)
	}
	u, err := t.streamURL()
	if err == nil && t.CAFile != "" && !strings.HasPrefix(u, "https:") {
		return fmt.Errorf("--ca-file has no effect with --url %s: want an address that begins with https://", t.URL)
	}
	return err
}

// Run implements the command. It returns when ctx ends, which is not an error, or when the server
// refuses the stream for good.
func (t *tailCommand) Run(ctx context.Context) error {
	u, err := t.streamURL()
	if err != nil {
		return err
	}
	if _, err := t.readToken(); err != nil {
		return usageError{err}
	}
	if err := t.checkSocket(ctx); err != nil {
		return err
	}
	transport, err := t.newTransport()
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	return tail.Run(ctx, tail.Config{
		Client: &http.Client{Transport: transport}, URL: u, Token: t.readToken,
		LastEventID: t.LastEventID, IdleTimeout: t.IdleTimeout,
		JSON: t.JSON, IDs: t.IDs, All: t.All, Out: os.Stdout, Notes: os.Stderr,
	})
}

// parseStreamURL parses the address of a stream. An address without a path, and a path that ends with a slash, gets
// /events.
func parseStreamURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("--url %q: want the address of a stream, such as http://127.0.0.1:8080/events", text)
	}
	if u.Path == "" || strings.HasSuffix(u.Path, "/") {
		u.Path = strings.TrimSuffix(u.Path, "/") + "/events"
	}
	return u, nil
}

// newTransport returns a transport that trusts the authorities of --ca-file. The error is a [usageError].
func (t *tailCommand) newTransport() (*http.Transport, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	if path, _, ok := cutSocket(t.URL); ok {
		transport.Proxy = nil
		transport.DialContext = dialUnix(path)
	}
	if t.CAFile == "" {
		return transport, nil
	}
	roots, err := authorities("ca-file", t.CAFile)
	if err != nil {
		return nil, usageError{err}
	}
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return transport, nil
}

// cutSocket cuts an address unix:PATH:/URLPATH, as nginx writes it, into the path of a Unix socket and the rest, which
// may be empty.
func cutSocket(address string) (path, rest string, ok bool) {
	path, ok = listener.UnixPath(address)
	if i := strings.Index(path, ":/"); i >= 0 {
		path, rest = path[:i], path[i+1:]
	}
	return path, rest, ok
}

// checkSocket returns an error if --url names a Unix socket that is not there or may not be connected to. Later the client
// retries such errors, because the socket is away while the server restarts.
func (t *tailCommand) checkSocket(ctx context.Context) error {
	path, _, ok := cutSocket(t.URL)
	if !ok {
		return nil
	}
	file, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--url %s: there is no socket %s: is the path right, and does the server run?", t.URL, path)
	case errors.Is(err, syscall.ENOTDIR), err == nil && file.Mode()&fs.ModeSocket == 0:
		return usageError{fmt.Errorf("--url %s: %s is not a socket; a base path follows a colon, as in unix:/run/herald/herald.sock:/herald/", t.URL, path)}
	case err != nil:
		return fmt.Errorf("--url %s: %w", t.URL, err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("--url %s: %w: run as a user or a group that may connect to the socket", t.URL, err)
	}
	if err == nil {
		_ = conn.Close()
	}
	return nil
}

// streamURL returns the stream's address. The flags that the server evaluates are in its query.
func (t *tailCommand) streamURL() (string, error) {
	address := t.URL
	if _, rest, ok := cutSocket(address); ok { // newTransport connects to the socket
		address = "http://localhost" + rest
	}
	u, err := parseStreamURL(address)
	if err != nil {
		return "", err
	}
	query := u.Query()
	for name, value := range map[string]string{"user": t.User, "since": t.Since, "types": strings.Join(t.Types, ",")} {
		if value != "" {
			query.Set(name, value)
		}
	}
	claims, err := auth.ParseClaims(t.Claim)
	if err != nil {
		return "", err
	}
	for name, values := range claims {
		query[auth.ClaimParam(name)] = values
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// readToken returns the bearer token, or "" if the user gave none.
func (t *tailCommand) readToken() (string, error) {
	if t.TokenFile != "" {
		text, err := textfile.ReadSecret(t.TokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		return string(text), nil
	}
	text := os.Getenv(tail.TokenVariable)
	if text == "" {
		return "", nil
	}
	token, err := textfile.Secret([]byte(text))
	if err != nil {
		return "", fmt.Errorf("the environment variable %s %w", tail.TokenVariable, err)
	}
	return string(token), nil
}
