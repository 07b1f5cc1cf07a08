package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says what to measure.
type Config struct {
	// URL is the streams' address, http or https.
	URL string
	// Token returns the bearer token of a user. Nil: the query parameter "user" names the user.
	Token func(user string) (string, error)
	// Admin is the URL of the server's admin listener; may be empty.
	Admin string
	// PID is the server's process on this machine; 0 if it is not known.
	PID int

	// Streams is how many are opened, PerUser how many of them each user has.
	Streams, PerUser int
	// Prefix begins the users' names.
	Prefix string
	// Stalled is how many more streams are opened and not read.
	Stalled int
	// Sources are the addresses of this machine to connect from. Empty: as many of the loopback
	// network as are needed for a server there, else the system's choice.
	Sources []net.IP
	// OpenRate bounds how many streams are opened a second; 0: as many as can be.
	OpenRate int
	// OpenAtOnce is how many are being opened at a time.
	OpenAtOnce int

	// Kafka has the options of a client that writes the records. Nil: nothing is written.
	Kafka []kgo.Opt
	// Record returns a record for the user without its value. Nil in its place is a user that can
	// have none.
	Record func(user string) *kgo.Record
	// Broadcast says that each record is for all streams; Record is then asked with "".
	Broadcast bool
	// Rate is the records a second; 0: as many as are delivered.
	Rate int
	// Size is that of a record's value in bytes, at least [MinSize].
	Size int
	// Duration is how long records are written at the rate. 0: the streams are left idle.
	Duration time.Duration
	// Storm is how many records each user misses while cut off; 0: no storm.
	Storm int
	// Settle is how long the server's memory is waited for to settle, at most.
	Settle time.Duration
	// Patience is how long nothing may come before what is missing counts as lost.
	Patience time.Duration

	// Bare is the command line of a process that runs [ServeBare], for comparison. Empty: none.
	Bare []string
	// Progress is where a line goes every second.
	Progress io.Writer

	goroutines bool // a goroutine for each stream where epoll would do
}

// Check refuses what cannot be measured, in the words of the command line.
func (c *Config) Check() error {
	switch {
	case c.Streams < 1:
		return fmt.Errorf("--streams=%d: want 1 or more", c.Streams)
	case c.PerUser < 1 || c.PerUser > c.Streams:
		return fmt.Errorf("--streams-per-user=%d: want 1 to the %d of --streams", c.PerUser, c.Streams)
	case c.Stalled < 0 || c.Rate < 0 || c.Storm < 0 || c.OpenRate < 0 || c.Duration < 0 || c.Settle < 0:
		return errors.New("--stalled, --rate, --storm, --open-rate, --settle and --duration: want 0 or more")
	case c.OpenAtOnce < 1:
		return fmt.Errorf("--open-at-once=%d: want 1 or more", c.OpenAtOnce)
	case c.Size < MinSize || c.Size > 1<<20:
		return fmt.Errorf("--size=%d: want %d, as what is measured stands in the value, to %d", c.Size, MinSize, 1<<20)
	case c.Patience < time.Second:
		return fmt.Errorf("--patience=%v: want 1s or more", c.Patience)
	}
	return checkFileLimit(c.Streams + c.Stalled)
}

// reserveFiles is how many open files the tool needs besides its streams.
const reserveFiles = 64

// endpoint is where the streams are.
type endpoint struct {
	url     *url.URL
	address *net.TCPAddr
}

// resolve looks the server's address up once.
func (c *Config) resolve() (endpoint, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return endpoint{}, fmt.Errorf("--url: %w", err)
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme
	}
	address, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return endpoint{}, fmt.Errorf("--url: %w", err)
	}
	return endpoint{u, address}, nil
}

// perSource is how many streams of a source address are safe: Linux has 28,232 ports for outgoing
// connections (ip_local_port_range), and those of the last minute are still taken.
const perSource = 10_000

// sources are the addresses to connect from, nil for the system's choice.
func (c *Config) sources(to *net.TCPAddr) []net.IP {
	if len(c.Sources) > 0 {
		return c.Sources
	}
	count := (c.Streams + c.Stalled + perSource - 1) / perSource
	if !loopbackNetwork || !to.IP.IsLoopback() || to.IP.To4() == nil || count == 1 {
		return []net.IP{nil}
	}
	list := make([]net.IP, min(count, 250))
	for i := range list {
		list[i] = net.IPv4(127, 0, 0, byte(i+1))
	}
	return list
}
