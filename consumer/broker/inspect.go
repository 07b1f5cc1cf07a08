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

// Brokers returns the address, host:port, of each broker that the last metadata listed.
func (c *Cluster) Brokers() map[int32]string {
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	return maps.Clone(c.roster.hosts)
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
	req.Groups, req.IncludeAuthorizedOperations = []string{name}, true
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
