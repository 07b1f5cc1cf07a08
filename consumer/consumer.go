package consumer

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"herald/consumer/broker"
	"herald/consumer/logtail"
)

// Consumer reads the topics of its routes. See the package documentation.
type Consumer struct {
	cfg       Config
	cluster   *broker.Cluster
	contact   *contact
	topics    *topicRegistry
	poller    *topicPoller
	reader    *liveReader
	offsets   *offsetFinder
	scans     *scans
	member    *groupMember
	delivered *deliveredPositions
	metrics   *metrics
	log       *slog.Logger
}

// New checks cfg and returns a consumer that delivers to sink once [Consumer.Run] is called.
func New(cfg Config, sink Sink) (*Consumer, error) {
	rs, err := newRoutes(cfg.Routes)
	if err != nil {
		return nil, err
	}
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	c := &Consumer{
		cfg:     cfg,
		cluster: broker.NewCluster(cfg.Brokers, cfg.TLS, cfg.SASL, time.Minute),
		metrics: newMetrics(cfg.Registry),
		log:     cfg.Logger,
	}
	c.contact = newContact(cfg.Brokers, c.metrics, c.log)
	c.topics = newTopicRegistry(rs, c.log, c.metrics.misplaced.Inc)
	c.offsets = newOffsetFinder(c.cluster, c.topics)
	c.reader = newLiveReader(c.cluster, c.topics, c.offsets, sink, logtail.New(cfg.ReplayCacheBytes*3/4), cfg.fetchOptions(), cfg.SessionPartitions, c.metrics, c.log)
	if c.reader.decoders, err = newDecoders(rs, cfg.Schemas, c.metrics, c.log); err != nil {
		return nil, err
	}
	c.offsets.checkTopic = c.reader.checkTopic
	c.poller = newTopicPoller(c.cluster, c.topics, c.reader, c.contact, c.metrics, c.log)
	c.member = newGroupMember(newGroupHealth(cfg.Group, cfg.Replica, c.Online, c.metrics, c.log), c.cluster, c.metrics, c.topics.commitTopics, c.reader.positions)
	c.delivered = newDeliveredPositions(newGroupHealth(cfg.Group, deliveredGroup, c.Online, c.metrics, c.log), c.cluster, c.metrics, c.topics.idOf)
	fetcher := newChunkFetcher(c.cluster, c.topics, c.offsets, cfg.fetchOptions(), cfg.ReplayCacheBytes/4, c.metrics)
	c.scans = newScans(fetcher, cfg.ReplayConcurrency, cfg.ReplayRatePerUser, c.metrics, c.log)
	c.scans.decoders = c.reader.decoders
	if cfg.Registry != nil {
		tailBytes, tailAge := newTailMetrics(c.reader.tail)
		cfg.Registry.MustRegister(lagCollector{c.reader}, partitionsCollector{c.reader}, tailBytes, tailAge, newSchemaWaitMetric(c.reader))
	}
	return c, nil
}

// Run reads until ctx ends. Then it commits its positions and leaves the group. It waits for a cluster that is
// unreachable, and returns an error only if the cluster can never be read ([broker.ErrUnsupported]).
func (c *Consumer) Run(ctx context.Context) error {
	defer c.cluster.Close()
	membership, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c.reader.start(ctx)
	c.scans.start(ctx)
	var group sync.WaitGroup
	group.Go(func() { c.member.run(membership) })
	group.Go(func() { c.delivered.run(membership) })
	err := c.poller.run(ctx)
	stop()
	c.reader.wg.Wait()
	c.scans.wg.Wait()
	leave() // only now, so that the last commit covers everything that was read
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

// Ready returns nil if Kafka answers and all topics are being read that are always read. The error says what
// is missing.
func (c *Consumer) Ready() error {
	if err := c.Contact(); err != nil {
		return err
	}
	return c.TopicsRead()
}

// Contact returns nil if Kafka answered the last metadata request, and otherwise why not.
func (c *Consumer) Contact() error { return c.contact.check() }

// TopicsRead returns nil if all topics are being read that are always read and exist. The error names one that is not,
// such as a topic that has just been created. It does not say whether Kafka still answers.
func (c *Consumer) TopicsRead() error { return c.topics.checkReady() }

// Started returns nil once Kafka has answered and all topics that are always read, and existed then, have begun. It
// still returns nil when Kafka is unreachable later, and when topics or partitions are added.
func (c *Consumer) Started() error {
	if !c.contact.answered.Load() {
		return c.Contact()
	}
	return c.topics.checkStarted()
}

// Connections returns the number of connections to brokers that are open.
func (c *Consumer) Connections() int { return c.cluster.Connections() }

// Renewals returns how many times the log-in of an open connection was renewed, and how many times that failed.
func (c *Consumer) Renewals() (succeeded, failed int64) { return c.cluster.Renewals() }

// Online reports whether Kafka answered the last metadata request.
func (c *Consumer) Online() bool { return c.contact.isOnline() }

// Denied reports whether an access control list forbids reading a topic. If the topic was read before,
// [Consumer.Ready] still returns nil, so that the streams of other topics continue.
func (c *Consumer) Denied(topic string) bool { return c.topics.isDenied(topic) }

// SetReplayRatePerUser changes [Config.ReplayRatePerUser]. It may be called at any time.
func (c *Consumer) SetReplayRatePerUser(bytes int) {
	c.scans.costs.SetRate(float64(bytes), bytes*costBurst)
}

// UserTopic is a topic of a user's streams.
type UserTopic struct {
	Topic     string
	Own       bool   // the topic is the user's own, by a per-user route
	Broadcast bool   // the topic is for everyone
	Claim     string // the topic's records are for values of this claim, see [Route.Claim]; empty: they are not
	Homes     *Homes // the partitions that may hold the user's records; nil: all partitions
}

// UserTopics returns the topics of user's streams, sorted by name. With an empty user, and with a user whose
// name cannot be a part of a topic's name, it returns the topics that all users share.
func (c *Consumer) UserTopics(user string) []UserTopic { return c.topics.userTopics(user) }

// CheckUser returns nil if user can have streams. The error is [ErrUserTopic].
func (c *Consumer) CheckUser(user string) error {
	_, err := c.topics.routes.userTopics(user)
	return err
}

// Join begins to read user's own topics, if the routes give users topics, and waits until all topics of the
// user's streams are being read. It returns these topics, sorted by name. It waits for Kafka until ctx ends.
// The list includes topics that do not exist yet: their first records will be delivered. It leaves out topics
// that Kafka does not let Herald read, so that the stream gets the other topics. Each Join that returns no
// error needs one [Consumer.Leave].
func (c *Consumer) Join(ctx context.Context, user string) ([]UserTopic, error) {
	return c.topics.join(ctx, user)
}

// Leave takes back one [Consumer.Join] of user. The user's own topics are read for another 10 s, so that a
// client that reconnects finds them.
func (c *Consumer) Leave(user string) {
	if own, err := c.topics.routes.userTopics(user); err == nil {
		c.topics.removeUser(own)
	}
}

// Delivered notes that a stream of a user was written all records before next of a partition of the topic
// with that id. Only users' own topics count. It does not wait for Kafka.
func (c *Consumer) Delivered(p Partition, topicID [16]byte, next int64) {
	if c.topics.always[p.Topic] == nil {
		c.delivered.record(p, deliveredPosition{topicID, next})
	}
}

// DeliveredTo returns how far user's own topics were delivered by any replica to any device. A partition
// of which nothing was delivered is at 0. The error is what Kafka answered.
func (c *Consumer) DeliveredTo(ctx context.Context, user string) (map[Partition]int64, error) {
	own, err := c.topics.routes.userTopics(user)
	if err != nil || len(own) == 0 {
		return nil, err
	}
	return c.delivered.list(ctx, c.topics.partitionsOf(maps.Keys(own)))
}

// Since returns, for each of the partitions, the offset of the first record that was written at the time t or
// later, by the records' timestamps. With the zero time it returns the first offset retained. If all records
// are older, it returns [AfterAll]. It leaves out partitions of topics that are not read here or do not exist.
// It also leaves out partitions for which Kafka does not answer, such as partitions without a leader, and
// returns the error of one of them; the other offsets are good.
func (c *Consumer) Since(ctx context.Context, partitions []Partition, t time.Time) (map[Partition]int64, error) {
	return c.offsets.findSince(ctx, partitions, t)
}

// Starts returns the first offset retained of each partition of the topics. Left-out partitions and the error
// are as for [Consumer.Since].
func (c *Consumer) Starts(ctx context.Context, topics []UserTopic) (map[Partition]int64, error) {
	return c.offsets.findStarts(ctx, topics)
}

// Confirm asks Kafka whether topic still has the id topicID, and returns nil if it has. The error is
// [ErrRecreated] if it has another id, or what Kafka answered. The caller may ask again.
func (c *Consumer) Confirm(ctx context.Context, topic string, topicID [16]byte) error {
	return c.offsets.confirm(ctx, topic, topicID)
}

// Range returns the first offset that p retains and the end of its log (the high watermark), open
// transactions included. The error is [ErrRecreated] if the topic no longer has the id topicID, or what Kafka
// answered.
func (c *Consumer) Range(ctx context.Context, p Partition, topicID [16]byte) (start, end int64, err error) {
	return c.offsets.findRange(ctx, p, topicID)
}
