package consumer

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go/sasl"

	"herald/consumer/format"
)

// Config configures a [Consumer]. Brokers, Group, Replica and Routes have no defaults.
type Config struct {
	Brokers []string // addresses, each host:port, of some of the cluster's brokers
	TLS     *tls.Config
	SASL    sasl.Mechanism

	// Group and Replica name the consumer group "<Group>.<Replica>". Each replica is a group of its own and
	// reads every partition of the shared topics. Two processes with the same name both read everything,
	// share the commits, and log a warning.
	Group   string
	Replica string

	Routes []Route

	// Schemas is the schema registry of routes with [format.KindRegistry], and needed for them. Default: none.
	Schemas *format.Registry

	// ReplayConcurrency bounds how many passes over logs read from Kafka at the same time. A quarter of them
	// is for long replays, of more than 200,000 offsets. Each pass holds one response in memory. Default 16.
	ReplayConcurrency int

	// ReplayCacheBytes bounds the memory for records that returning clients need, in bytes. Three quarters hold
	// the tail: the newest records of all partitions. A quarter holds older records, which several clients in
	// turn need from Kafka. Default 48 MiB. A negative number: no such memory.
	ReplayCacheBytes int

	// ReplayRatePerUser is how many bytes of logs a second the passes read for one user, on average over some
	// minutes. A user whose streams have made the passes read more waits before the next pass. Each record counts
	// as 100 bytes more than its key and value, and requests share the cost of a pass that serves them together.
	// Zero: no limit.
	ReplayRatePerUser int

	// FetchMaxBytes bounds one response of a broker, in bytes. A single batch may exceed it. Default 8 MiB.
	// Live reading holds one response for each fetch session in memory, and a second response for up to four
	// sessions with a long backlog. While a session delivers a compressed batch, the decompressed batch is
	// in memory too.
	FetchMaxBytes int32

	// SessionPartitions is the most partitions in a fetch session (KIP-227), which has a connection of its
	// own. Apache Kafka looks at all partitions of a session at each fetch, so smaller sessions deliver
	// sooner and need more connections. Default [DefaultSessionPartitions].
	SessionPartitions int

	// Rack is where this replica runs. A partition is read from a follower in this rack if the cluster's
	// replica.selector.class allows it (KIP-392).
	Rack string

	Logger   *slog.Logger          // default: no log
	Registry prometheus.Registerer // default: metrics are not exported
}

// deliveredGroup ends the name of the group whose committed offsets are the positions delivered to users.
const deliveredGroup = "delivered"

// Groups returns the names of the consumer groups that a [Consumer] uses: first "<Group>.<Replica>", which it joins,
// and then, if a route is [PerUser], "<Group>.delivered", which has no members.
func (cfg *Config) Groups() []string {
	names := []string{cfg.Group + "." + cfg.Replica}
	if slices.ContainsFunc(cfg.Routes, func(r Route) bool { return r.Kind == PerUser }) {
		names = append(names, cfg.Group+"."+deliveredGroup)
	}
	return names
}

// setDefaults checks the fields without a default and fills in the others.
func (cfg *Config) setDefaults() error {
	if len(cfg.Brokers) == 0 {
		return errors.New("no Kafka broker given")
	}
	if cfg.Group == "" || cfg.Replica == "" {
		return errors.New("a consumer group needs the names of group and replica")
	}
	if cfg.ReplayCacheBytes == 0 {
		cfg.ReplayCacheBytes = 48 << 20
	}
	if cfg.ReplayConcurrency == 0 {
		cfg.ReplayConcurrency = 16
	}
	if cfg.FetchMaxBytes == 0 {
		cfg.FetchMaxBytes = 8 << 20
	}
	if cfg.SessionPartitions == 0 {
		cfg.SessionPartitions = DefaultSessionPartitions
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (cfg *Config) fetchOptions() fetchOptions {
	return fetchOptions{maxBytes: cfg.FetchMaxBytes, rack: cfg.Rack}
}
