package broker

import (
	"context"
	"fmt"
	"maps"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Rights are the operations that a client may do with a topic or a group: a bit for each operation, at the operation's
// number (KIP-430).
type Rights int32

// Operations of access control lists, by Kafka's numbers (AclOperation).
const (
	Read  = 3
	Write = 4
)

// Known reports whether the broker's answer has the rights.
func (r Rights) Known() bool { return r != math.MinInt32 }

// Allow reports whether the operation is among the rights.
func (r Rights) Allow(operation int) bool { return r&(1<<operation) != 0 }

// needs has the version of each request that Herald sends, or that kafka-go sends for the consumer groups. Of JoinGroup,
// kafka-go takes version 1 or 2.
var needs = map[kmsg.Key]int16{
	kmsg.Fetch: FetchVersion, kmsg.Metadata: metadataVersion, kmsg.ListOffsets: listOffsetsVersion, kmsg.Produce: 9,
	kmsg.FindCoordinator: 2, kmsg.JoinGroup: 2, kmsg.SyncGroup: 0, kmsg.Heartbeat: 0, kmsg.OffsetCommit: 2,
}

// Brokers returns the address, host:port, of each broker that the last metadata listed.
func (c *Cluster) Brokers() map[int32]string {
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	return maps.Clone(c.roster.hosts)
}

// CheckBroker returns an error if the broker cannot be reached at the address that the cluster advertises, or does not
// speak the versions of the requests that Herald sends, which is [ErrUnsupported].
func (c *Cluster) CheckBroker(ctx context.Context, broker int32) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	res, err := c.Request(ctx, broker, kmsg.NewPtrApiVersionsRequest(), nil)
	if err != nil {
		return err
	}
	offered := make(map[kmsg.Key]kmsg.ApiVersionsResponseApiKey)
	for _, k := range res.(*kmsg.ApiVersionsResponse).ApiKeys {
		offered[kmsg.Key(k.ApiKey)] = k
	}
	for key, version := range needs {
		k, known := offered[key]
		switch {
		case !known:
			return fmt.Errorf("%w (no %s, need v%d)", ErrUnsupported, key.Name(), version)
		case version < k.MinVersion || version > k.MaxVersion:
			return fmt.Errorf("%w (%s v%d to v%d, need v%d)", ErrUnsupported, key.Name(), k.MinVersion, k.MaxVersion, version)
		}
	}
	return nil
}

// Group is what the cluster says about a consumer group.
type Group struct {
	Members int
	Rights  Rights
}

// DescribeGroup returns what the group's coordinator says about the group, which need not exist. The error wraps
// [kerr.GroupAuthorizationFailed] if this client may not describe the group.
func (c *Cluster) DescribeGroup(ctx context.Context, name string) (Group, error) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Version, req.Groups, req.IncludeAuthorizedOperations = 5, []string{name}, true
	res, err := c.RequestCoordinator(ctx, name, req)
	if err != nil {
		return Group{}, err
	}
	groups := res.(*kmsg.DescribeGroupsResponse).Groups
	if len(groups) != 1 {
		return Group{}, fmt.Errorf("group %s: no answer for it", name)
	}
	if err := kerr.ErrorForCode(groups[0].ErrorCode); err != nil {
		return Group{}, fmt.Errorf("group %s: %w", name, err)
	}
	return Group{Members: len(groups[0].Members), Rights: Rights(groups[0].AuthorizedOperations)}, nil
}
