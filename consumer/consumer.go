package consumer

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go/sasl"

	"herald/consumer/broker"
)

// Config is what a [Consumer] needs. Brokers, Group and Routes have no defaults.
type Config struct {
	Brokers []string // host:port
	TLS     *tls.Config
	SASL    sasl.Mechanism

	// Group and Replica name the consumer group, "<Group>.<Replica>": every replica reads every
	// shared partition, as a group of its own. Two processes of one name still read everything and
	// share the commits (balance.go); a warning in the log says so.
	Group   string
	Replica string

	Routes []Route

	// ReplayConcurrency bounds how many passes over a log are made at a time for replays; a quarter
	// of them is for those that are far behind. Default 16. Each holds one response in memory.
	ReplayConcurrency int

	// ReplayCacheBytes bounds what is kept of the log for clients who were cut off together and come
	// back one after the other, in bytes; a quarter of it is for replays that are far behind. Default
	// 48 MiB.
	ReplayCacheBytes int

	// FetchMaxBytes bounds one response of a broker, in bytes; a larger batch is taken all the same.
	// Default 8 MiB. Live reading holds one response for each fetch session, and a second one for four
	// of those that are far behind, which are read while the first is delivered. A compressed batch is
	// in memory decompressed besides, while its session delivers it.
	FetchMaxBytes int32

	// SessionPartitions is how many partitions share a fetch session (KIP-227) at most, which has a
	// connection of its own. Apache Kafka walks all of them at each fetch: fewer wake up sooner, over
	// more connections. Default [DefaultSessionPartitions].
	SessionPartitions int

	// Rack is where this replica runs. If it is the rack of a broker that follows a partition, and
	// the cluster's replica.selector.class allows it, the partition is read there (KIP-392).
	Rack string

	Logger   *slog.Logger          // default: none
	Registry prometheus.Registerer // default: metrics are not exported
}

func (cfg *Config) fetchOptions() fetchOptions {
	return fetchOptions{maxBytes: cfg.FetchMaxBytes, rack: cfg.Rack}
}

// Consumer reads the topics of its routes. See the package documentation.
type Consumer struct {
	cfg     Config
	routes  routes
	static  map[string]*Route
	homes   map[string]*Homes // of the static topics whose routes name a partitioner
	cluster *broker.Cluster
	reader  *liveReader
	sink    Sink
	log     *slog.Logger
	metrics *metrics

	scans     *scans
	member    *groupMember
	delivered *deliveredPositions
	chunks    [2]*chunks    // by distance
	confirms  chan struct{} // bounds metadata requests of [Consumer.Confirm]
	buffers   sync.Pool     // of *[]byte, for replays
	wake      chan struct{}
	away      atomic.Pointer[error] // why the last metadata request was not answered; nil: it was

	awayTold                    time.Time    // when the log last said that Kafka is away; used by runTopics only
	replayLogged, leftOutLogged atomic.Int64 // the second of Unix time in which an error of a replay, or what one left out, was logged last

	mu         sync.Mutex
	topics     map[string]*topicState
	schedule   metadataSchedule
	departures []departure // of users, the oldest first
}

// New checks cfg and returns a consumer that delivers to sink once [Consumer.Run] is called.
func New(cfg Config, sink Sink) (*Consumer, error) {
	rs, err := newRoutes(cfg.Routes)
	if err != nil {
		return nil, err
	}
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("no Kafka broker given")
	}
	if cfg.Group == "" || cfg.Replica == "" {
		return nil, errors.New("a consumer group needs the names of group and replica")
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
	c := &Consumer{
		cfg:      cfg,
		routes:   rs,
		static:   make(map[string]*Route),
		homes:    make(map[string]*Homes),
		cluster:  broker.NewCluster(cfg.Brokers, cfg.TLS, cfg.SASL, time.Minute),
		sink:     sink,
		log:      cfg.Logger,
		metrics:  newMetrics(cfg.Registry),
		confirms: make(chan struct{}, 16),
		wake:     make(chan struct{}, 1),
		topics:   make(map[string]*topicState),
	}
	c.schedule = metadataSchedule{topics: c.topics, hurry: make(map[string]struct{})}
	notYet := errors.New("it was not asked yet")
	c.away.Store(&notYet)
	c.reader = newLiveReader(c)
	c.member = newGroupMember(newGroupHealth(cfg.Group, cfg.Replica, c.Online, c.metrics, c.log), c.cluster, c.metrics, c.commitTopics, c.reader.positions)
	c.delivered = newDeliveredPositions(newGroupHealth(cfg.Group, "delivered", c.Online, c.metrics, c.log), c.cluster, c.metrics, c.topicID)
	c.scans = newScans(c)
	c.chunks = [...]*chunks{near: newChunks(cfg.ReplayCacheBytes - cfg.ReplayCacheBytes/4), far: newChunks(cfg.ReplayCacheBytes / 4)}
	if cfg.Registry != nil {
		cfg.Registry.MustRegister(lagCollector{c.reader}, partitionsCollector{c.reader})
	}
	for _, r := range rs.static() {
		c.static[r.Topic] = r
		c.topics[r.Topic] = newTopicState(r.Topic, r)
		if r.Partitioner != "" {
			h := NewHomes(r.Topic, r.Partitioner)
			h.log, h.misplaced = c.log, c.metrics.misplaced.Inc
			c.homes[r.Topic] = h
		}
	}
	return c, nil
}

// Run reads until ctx ends, then commits and leaves the group. It returns an error only if the
// cluster can never be read ([broker.ErrUnsupported]); a cluster that is away is waited for.
func (c *Consumer) Run(ctx context.Context) error {
	defer c.cluster.Close()
	member, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c.reader.ctx = ctx
	c.scans.start(ctx)
	var group sync.WaitGroup
	group.Go(func() { c.member.run(member) })
	group.Go(func() { c.delivered.run(member) })
	c.reader.wg.Go(func() { c.reader.watch(ctx) })
	err := c.runTopics(ctx)
	stop()
	c.reader.wg.Wait()
	c.scans.wg.Wait()
	leave() // the last commit is of all that was read
	left := make(chan struct{})
	go func() {
		group.Wait()
		close(left)
	}()
	select {
	case <-left:
	case <-time.After(leaveTimeout):
		c.log.Warn("kafka did not take the last commit in time; the group shows an old position", "group", c.member.group)
	}
	return err
}

// Ready says whether all topics that are always read are being read and Kafka answers. The error
// says what is missing.
func (c *Consumer) Ready() error {
	if reason := c.away.Load(); reason != nil {
		return fmt.Errorf("kafka does not answer: %w", *reason)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.static {
		if t := c.topics[name]; !t.known {
			return fmt.Errorf("topic %s is not read yet%s", name, t.reason())
		}
	}
	return nil
}

// Online says whether Kafka answered last time it was asked.
func (c *Consumer) Online() bool { return c.away.Load() == nil }

// Denied says whether an access control list keeps us from reading a topic. One that was read before does
// not make [Consumer.Ready] fail, so that the streams of others go on.
func (c *Consumer) Denied(topic string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[topic]
	return t != nil && t.denied
}

// UserTopic is a topic of a user's streams.
type UserTopic struct {
	Topic     string
	Own       bool   // it is the user's own: one of a per-user route
	Broadcast bool   // it is for everyone
	Homes     *Homes // where the user's records are in it; nil: in any partition
}

// UserTopics returns the topics of user's streams or, with an empty user, those that all users share,
// sorted by name. Those of a user who cannot have a topic are the shared ones too.
func (c *Consumer) UserTopics(user string) []UserTopic {
	list := make([]UserTopic, 0, len(c.static))
	for name, route := range c.static {
		list = append(list, UserTopic{Topic: name, Broadcast: route.Kind == Broadcast, Homes: c.homes[name]})
	}
	if own, err := c.routes.userTopics(user); err == nil {
		for name := range own {
			list = append(list, UserTopic{Topic: name, Own: true})
		}
	}
	slices.SortFunc(list, func(a, b UserTopic) int { return cmp.Compare(a.Topic, b.Topic) })
	return list
}

// CheckUser says whether user can have streams here. The error is [ErrUserTopic].
func (c *Consumer) CheckUser(user string) error {
	_, err := c.routes.userTopics(user)
	return err
}

// Join begins to read user's own topics, if the routes give users topics, and returns all topics
// of the user's streams, sorted by name, once they are being read: it waits for Kafka if need be,
// until ctx ends. A topic that does not exist yet is among them: its first record will be delivered.
// One that Kafka does not let us read is not, so that the others go on without it. Every Join that
// returns no error wants one [Consumer.Leave].
func (c *Consumer) Join(ctx context.Context, user string) ([]UserTopic, error) {
	own, err := c.routes.userTopics(user)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	list := make([]*topicState, 0, len(own)+len(c.static))
	for name, route := range own {
		t := c.topics[name]
		if t == nil {
			t = newTopicState(name, route)
			c.topics[name] = t
			c.schedule.soon(t, time.Now())
		}
		t.users++
		list = append(list, t)
	}
	for name := range c.static {
		list = append(list, c.topics[name])
	}
	c.mu.Unlock()
	c.poke()
	for _, t := range list {
		select {
		case <-t.settled:
		case <-ctx.Done():
			c.leave(own)
			return nil, fmt.Errorf("topic %s: %w", t.name, context.Cause(ctx))
		}
	}
	sources := c.UserTopics(user)
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(sources, func(s UserTopic) bool { return !c.topics[s.Topic].known }), nil
}

// Leave takes back one [Consumer.Join] of user. A user's own topics are read a little longer, so
// that a client that reconnects finds them.
func (c *Consumer) Leave(user string) {
	if own, err := c.routes.userTopics(user); err == nil {
		c.leave(own)
	}
}

func (c *Consumer) leave(own map[string]*Route) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range own {
		t := c.topics[name]
		if t.users--; t.users == 0 {
			t.left = time.Now()
			c.departures = append(c.departures, departure{t, t.left})
		}
	}
}

// routeOf returns the route of a topic that is read now, nil if there is none.
func (c *Consumer) routeOf(name string) *Route {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.topics[name]; t != nil {
		return t.route
	}
	return nil
}

// leader returns where to read p and the id of its topic.
func (c *Consumer) leader(p Partition) (broker int32, topicID [16]byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[p.Topic]
	if t == nil || int(p.ID) >= len(t.leaders) || p.ID < 0 {
		return -1, topicID, fmt.Errorf("partition %s is not known", p)
	}
	if broker = t.leaders[p.ID]; broker < 0 {
		return -1, topicID, fmt.Errorf("partition %s has no leader", p)
	}
	return broker, t.id, nil
}

// doubt has the cluster asked soon about a topic: what is known of it may be outdated.
func (c *Consumer) doubt(name string) {
	c.mu.Lock()
	if t := c.topics[name]; t != nil {
		c.schedule.soon(t, time.Now())
	}
	c.mu.Unlock()
	c.poke()
}

func (c *Consumer) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
