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

// Config holds the settings of a measurement.
type Config struct {
	// URL is the streams' address, http or https.
	URL string
	// Token returns the bearer token of a user. Nil: the query parameter "user" names the user.
	Token func(user string) (string, error)
	// Admin is the URL of the server's admin listener; may be empty.
	Admin string
	// PID is the server's process on this machine; 0 if it is not known.
	PID int

	// Streams is how many streams to open, PerUser how many of them each user has.
	Streams, PerUser int
	// Prefix begins the users' names.
	Prefix string
	// Stalled is how many more streams to open and never read.
	Stalled int
	// Sources are the addresses of this machine to connect from. Empty: for a server on the loopback
	// network, as many addresses of that network as the streams need; else the system's choice.
	Sources []net.IP
	// OpenRate is the most streams to open in a second. 0: no limit.
	OpenRate int
	// OpenAtOnce is the most streams that are being opened at a time.
	OpenAtOnce int

	// Kafka holds the options of the client that writes the records. Nil: no records.
	Kafka []kgo.Opt
	// Record returns a record for the user without its value, or nil for a user that cannot have
	// records.
	Record func(user string) *kgo.Record
	// Broadcast says that each record is for all streams. Record is then called with "".
	Broadcast bool
	// Rate is the number of records a second. 0: as many as the server delivers.
	Rate int
	// Size is the size of a record's value in bytes, at least [MinSize].
	Size int
	// Duration is how long to write records at the rate. 0: the streams stay idle.
	Duration time.Duration
	// Storm is how many records each user misses while its streams are cut. 0: no storm.
	Storm int
	// Settle is the longest wait for the server's memory to settle.
	Settle time.Duration
	// Patience is how long no event may arrive before the missing events count as lost.
	Patience time.Duration

	// Bare is the command line of a process that runs [ServeBare], for comparison. Empty: no comparison.
	Bare []string
	// Progress receives a line every second. Nil: no lines.
	Progress io.Writer

	goroutines bool // use a goroutine for each stream, even where epoll is available
}

// Check returns an error for settings that cannot be measured. The error names the flags of the
// command line.
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
		return fmt.Errorf("--size=%d: want %d to %d; the value holds what is measured", c.Size, MinSize, 1<<20)
	case c.Patience < time.Second:
		return fmt.Errorf("--patience=%v: want 1s or more", c.Patience)
	}
	return checkFileLimit(c.Streams + c.Stalled)
}

// reserveFiles is how many open files the tool needs in addition to its streams.
const reserveFiles = 64

// endpoint is the address of the streams.
type endpoint struct {
	url     *url.URL
	address *net.TCPAddr
}

// resolve looks up the server's address.
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

// perSource is how many streams one source address can safely have. Linux has 28,232 ports for
// outgoing connections (ip_local_port_range), and a port stays in use for a minute after its connection
// has ended.
const perSource = 10_000

// sources returns the addresses to connect from. A nil address is the system's choice.
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
