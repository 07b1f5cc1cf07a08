package consumer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kerr"

	"herald/consumer/broker"
)

// Inspection asks a cluster what a [Consumer] and a [Producer] will need of it. It writes nothing and joins no group.
// Its methods may be called concurrently.
type Inspection struct{ cluster *broker.Cluster }

// NewInspection returns an inspection of the cluster of these brokers. TLS and mechanism may be nil.
func NewInspection(brokers []string, tlsConfig *tls.Config, mechanism sasl.Mechanism) *Inspection {
	return &Inspection{broker.NewCluster(brokers, tlsConfig, mechanism, inspectionIdle)}
}

// inspectionIdle is how long an inspection keeps a connection that it does not use.
const inspectionIdle = broker.RequestTimeout

// Close closes the connections.
func (i *Inspection) Close() { i.cluster.Close() }

// reachAttempts is how often Reach asks brokers that do not answer in time. A first request includes the hand-shakes
// of TLS and SASL, for which a busy broker takes seconds.
const reachAttempts = 3

// Reach returns an error unless a broker answers at one of the addresses.
func (i *Inspection) Reach(ctx context.Context) error {
	var err error
	for range reachAttempts {
		_, err = i.cluster.FetchMetadata(ctx, nil, false)
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("%w (asked %d times)", err, reachAttempts)
}

// BrokerReport says whether a broker can be used.
type BrokerReport struct {
	ID      int32
	Address string // as the cluster advertises it
	Err     error  // why it cannot be reached or used; nil if it can
}

// Brokers connects to each broker of the cluster at its advertised address, all at the same time. The reports are in
// the order of the brokers' ids. The error says that no broker answers.
func (i *Inspection) Brokers(ctx context.Context) ([]BrokerReport, error) {
	if err := i.Reach(ctx); err != nil {
		return nil, err
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		reports []BrokerReport
	)
	for id, address := range i.cluster.Brokers() {
		wg.Go(func() {
			err := i.cluster.CheckBroker(ctx, id)
			mu.Lock()
			reports = append(reports, BrokerReport{id, address, err})
			mu.Unlock()
		})
	}
	wg.Wait()
	slices.SortFunc(reports, func(a, b BrokerReport) int { return int(a.ID) - int(b.ID) })
	return reports, nil
}

// TopicReport says what the cluster has of a topic and allows with it.
type TopicReport struct {
	Partitions int
	Leaderless int  // partitions without a leader
	Missing    bool // the topic does not exist
	Nameless   bool // the topic exists, and the brokers report no id of it, as Kafka before 2.8
	Denied     bool // this client may not even describe the topic
	Err        error

	RightsKnown       bool // otherwise, the next two mean nothing
	MayRead, MayWrite bool
}

// Topics returns a report for each of the topics.
func (i *Inspection) Topics(ctx context.Context, names []string) (map[string]TopicReport, error) {
	found, err := i.cluster.DescribeTopics(ctx, names)
	if err != nil {
		return nil, err
	}
	reports := make(map[string]TopicReport, len(names))
	for _, name := range names {
		m, ok := found[name]
		if !ok {
			reports[name] = TopicReport{Err: fmt.Errorf("topic %s: the broker's answer leaves it out", name)}
			continue
		}
		r := TopicReport{
			Partitions: len(m.Leaders), Missing: m.Missing(), Nameless: m.Err == nil && m.ID == [16]byte{}, Denied: errors.Is(m.Err, kerr.TopicAuthorizationFailed), Err: m.Err,
			RightsKnown: m.Rights.Known(), MayRead: m.Rights.Allow(broker.Read), MayWrite: m.Rights.Allow(broker.Write),
		}
		for _, leader := range m.Leaders {
			if leader < 0 {
				r.Leaderless++
			}
		}
		reports[name] = r
	}
	return reports, nil
}

// CheckCompacted returns an error if Kafka deletes records of the topic by age or size. known is false if Kafka does
// not say.
func (i *Inspection) CheckCompacted(ctx context.Context, topic string) (known bool, err error) {
	if _, err := i.cluster.FetchTopicConfig(ctx, topic, "cleanup.policy"); err != nil {
		return false, nil //nolint:nilerr // the right to ask is not among the rights that Herald needs
	}
	return true, checkCompacted(ctx, i.cluster, topic)
}

// GroupReport says what the cluster allows with a consumer group.
type GroupReport struct {
	Members int  // processes that are in the group now
	MayRead bool // join the group and commit offsets
	Err     error
}

// Group returns a report about a consumer group, which need not exist.
func (i *Inspection) Group(ctx context.Context, name string) GroupReport {
	var g broker.Group
	var err error
	for deadline := time.Now().Add(broker.RequestTimeout); ; {
		g, err = i.cluster.DescribeGroup(ctx, name)
		// The first question of a new cluster makes it create the topic of committed offsets.
		starting := errors.Is(err, kerr.CoordinatorNotAvailable) || errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator)
		if !starting || time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		pause(ctx, 500*time.Millisecond)
	}
	if errors.Is(err, kerr.GroupAuthorizationFailed) {
		return GroupReport{}
	}
	return GroupReport{Members: g.Members, MayRead: err == nil && (!g.Rights.Known() || g.Rights.Allow(broker.Read)), Err: err}
}
