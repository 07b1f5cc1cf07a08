package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrUnsupported says that a broker does not speak the versions of requests that Herald needs. The error's text names
// each such request.
var ErrUnsupported = errors.New("the broker does not speak the versions of requests that Herald needs")

// versionRange has the versions of a request that one side speaks.
type versionRange struct{ lowest, highest int16 }

// spoken has the versions of each request that Herald speaks. The callers of [Cluster.Request] fill a request for all
// of them.
//
// The lowest version is the first with something that Herald cannot do without: record batches and an isolation level
// (KIP-98) in Fetch, ListOffsets and Produce; whether a metadata request may create topics (KIP-4); the kind of the
// coordinator (KIP-98); an error for the whole group in OffsetFetch. The highest version is the last with something
// that Herald uses: ids of topics (KIP-516) in Fetch and Metadata; rights (KIP-430) in DescribeGroups. kafka-go chooses
// the versions of the requests that only kafka-go sends. They are among these.
var spoken = map[kmsg.Key]versionRange{
	kmsg.ApiVersions: {0, 0}, kmsg.SASLHandshake: {1, 1}, kmsg.SASLAuthenticate: {0, 1},
	kmsg.Metadata: {4, 10}, kmsg.Fetch: {4, 13}, kmsg.ListOffsets: {2, 7}, kmsg.Produce: {3, 9},
	kmsg.FindCoordinator: {1, 2}, kmsg.OffsetFetch: {2, 5}, kmsg.OffsetCommit: {2, 7},
	kmsg.JoinGroup: {1, 2}, kmsg.SyncGroup: {0, 0}, kmsg.Heartbeat: {0, 0}, kmsg.LeaveGroup: {0, 0},
	kmsg.DescribeGroups: {0, 5}, kmsg.DescribeConfigs: {1, 4},
}

// FetchByName is the last version of a fetch that names topics by name. A caller of [Cluster.Request] sets a fetch to this
// version, as the highest allowed, if it does not know the ids of all topics.
const FetchByName = 12

var (
	// toRead are the requests without which Herald can deliver nothing.
	toRead = []kmsg.Key{kmsg.Metadata, kmsg.ListOffsets, kmsg.Fetch}

	// toServe are the requests for all that Herald does while it serves: also publishing and consumer groups.
	toServe = append(slices.Clone(toRead), kmsg.Produce, kmsg.FindCoordinator, kmsg.OffsetFetch, kmsg.OffsetCommit,
		kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup)
)

// offer has the versions of requests that a broker speaks, by its answer to ApiVersions (KIP-35).
type offer map[kmsg.Key]versionRange

func newOffer(res *kmsg.ApiVersionsResponse) offer {
	o := make(offer, len(res.ApiKeys))
	for _, k := range res.ApiKeys {
		o[kmsg.Key(k.ApiKey)] = versionRange{k.MinVersion, k.MaxVersion}
	}
	return o
}

// choose returns the highest version of a request that both sides speak.
func (o offer) choose(key kmsg.Key) (int16, error) {
	theirs, known := o[key]
	ours := spoken[key]
	version := min(theirs.highest, ours.highest)
	if !known || version < max(theirs.lowest, ours.lowest) {
		return 0, fmt.Errorf("%w: %s", ErrUnsupported, o.describe(key))
	}
	return version, nil
}

// check returns [ErrUnsupported] if the two sides have no common version of one of the requests.
func (o offer) check(keys []kmsg.Key) error {
	var missing []string
	for _, key := range keys {
		if _, err := o.choose(key); err != nil {
			missing = append(missing, o.describe(key))
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnsupported, strings.Join(missing, "; "))
}

// describe returns the versions of both sides, such as "Fetch v0 to v3, Herald speaks v4 to v13".
func (o offer) describe(key kmsg.Key) string {
	theirs := "no " + key.Name()
	if r, known := o[key]; known {
		theirs = key.Name() + " " + r.String()
	}
	return fmt.Sprintf("%s, Herald speaks %s", theirs, spoken[key])
}

func (r versionRange) String() string {
	if r.lowest == r.highest {
		return fmt.Sprintf("v%d", r.lowest)
	}
	return fmt.Sprintf("v%d to v%d", r.lowest, r.highest)
}

// withVersion returns a copy of the request in the highest version that both sides speak. If the request has a version
// other than 0, withVersion chooses no higher one. It does not change the request, because a request that kafka-go has
// given up may still be on its way to another broker.
func (o offer) withVersion(req kmsg.Request) (kmsg.Request, error) {
	version, err := o.choose(kmsg.Key(req.Key()))
	if err != nil {
		return nil, err
	}
	if limit := req.GetVersion(); limit > 0 && limit < version {
		version = limit
	}
	original := reflect.ValueOf(req).Elem()
	clone := reflect.New(original.Type())
	clone.Elem().Set(original)
	versioned := clone.Interface().(kmsg.Request)
	versioned.SetVersion(version)
	return versioned, nil
}

// askVersions asks the broker at the other end of a new connection for its versions.
func (c *Cluster) askVersions(ctx context.Context, conn net.Conn) (offer, error) {
	res, err := converse(ctx, conn, kmsg.NewPtrApiVersionsRequest(), c.lastID.Add(1))
	if err != nil {
		return nil, fmt.Errorf("ask for versions: %w", err)
	}
	return newOffer(res.(*kmsg.ApiVersionsResponse)), nil
}

// offerAddr is the remote address of a connection, with the versions that its broker speaks. kafka-go passes on the
// remote address of a connection, and nothing else of it.
type offerAddr struct {
	net.Addr
	offer offer
}

// offerOf returns the versions that the broker at the other end of kafka-go's connection speaks.
func offerOf(conn any) (offer, error) {
	if c, ok := conn.(interface{ RemoteAddr() net.Addr }); ok {
		if a, ok := c.RemoteAddr().(offerAddr); ok {
			return a.offer, nil
		}
	}
	return nil, errors.New("a connection that Cluster.dial has not opened")
}

// CheckVersions asks a broker which versions of requests it speaks. The error is [ErrUnsupported] if Herald cannot
// read from it. A server ends for this error, so CheckVersions asks twice: no checksum covers the answer.
func (c *Cluster) CheckVersions(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	err := c.checkVersions(ctx, Any, toRead)
	if errors.Is(err, ErrUnsupported) {
		err = c.checkVersions(ctx, Any, toRead)
	}
	return err
}

// CheckBroker returns an error if the broker cannot be reached at the address that the cluster advertises, or does not
// speak the versions of all requests that Herald sends while it serves, which is [ErrUnsupported].
func (c *Cluster) CheckBroker(ctx context.Context, broker int32) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	return c.checkVersions(ctx, broker, toServe)
}

func (c *Cluster) checkVersions(ctx context.Context, broker int32, keys []kmsg.Key) error {
	res, err := c.Request(ctx, broker, kmsg.NewPtrApiVersionsRequest(), nil)
	if err != nil {
		return err
	}
	return newOffer(res.(*kmsg.ApiVersionsResponse)).check(keys)
}
