package server

import (
	"fmt"
	"log/slog"

	"herald/cmd/herald/listener"
	"herald/stream"
)

const (
	// minOpenFiles is the least limit of open files that a server starts with.
	minOpenFiles = 256
	// reservedFiles are open files that the public listener leaves to Kafka's connections, to the admin
	// listener and to the rest of the process.
	reservedFiles = 128
	// reservedConnections are connections that streams leave to other requests. With them, a client above
	// MaxStreams still gets an answer, which asks it to come back later.
	reservedConnections = 64
)

// CheckFileLimit returns an error if the limit of open files is so low that a few clients would reach it.
func CheckFileLimit() error {
	if n := listener.OpenFiles(); n < minOpenFiles {
		return fmt.Errorf("the limit of open files is %d, but Herald needs %d, and one more for each stream: raise it, with ulimit -Hn or LimitNOFILE= of systemd", n, minOpenFiles)
	}
	return nil
}

// maxConnections returns how many connections the public listener may have, streams included.
func maxConnections() int { return listener.OpenFiles() - reservedFiles }

// maxStreams returns how many streams there may be: MaxStreams, or fewer if the limit of open files has
// no room for it.
func (c *Config) maxStreams() int {
	room := maxConnections() - reservedConnections
	if c.MaxStreams == 0 {
		return room
	}
	return min(c.MaxStreams, room)
}

// warnOfFileLimit logs a warning if the limit of open files allows fewer streams than MaxStreams.
func (c *Config) warnOfFileLimit(log *slog.Logger) {
	if most := c.maxStreams(); most < c.MaxStreams {
		log.Warn("the limit of open files has no room for the allowed streams; raise it with ulimit -Hn or LimitNOFILE= of systemd", "setting", c.name("MaxStreams"),
			"max_streams", c.MaxStreams, "streams", most, "open_files", listener.OpenFiles(), "reserved", reservedFiles+reservedConnections)
	}
}

func (c *Config) admission() stream.Admission {
	return stream.Admission{Streams: c.maxStreams(), PerUser: c.MaxStreamsPerUser, PerAddress: c.MaxStreamsPerAddress, OpensPerSecond: c.MaxOpensPerSecond}
}
