package consumer

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// askTimeout is what one broker may take to answer what any broker can.
const askTimeout = requestTimeout / 3

// brokers are those that the cluster was last said to have, from whom to ask first. They take turns:
// one that is cut off from the others may answer for long with what it knew.
type brokers struct {
	mu    sync.Mutex
	ids   []int32 // empty before the first metadata
	hosts []string
}

// ask sends req to a broker of the cluster and, while one has no answer, to the next: that a broker
// is away says nothing of the others, even if it is the only one that we were told of.
func (c *cluster) ask(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	var first error
	for _, id := range c.brokers.order() {
		attempt, cancel := context.WithTimeout(ctx, askTimeout)
		res, err := c.request(attempt, id, req, nil)
		cancel()
		if err == nil {
			c.brokers.turn(id)
			return res, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// order returns whom to ask, the addresses that we were told of last.
func (b *brokers) order() []int32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append(slices.Clone(b.ids), anyBroker)
}

// addresses returns host:port of all brokers.
func (b *brokers) addresses() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hosts
}

// turn puts the broker, which has answered, and those before it, which have not, behind the others.
func (b *brokers) turn(id int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.ids, id); i >= 0 {
		b.ids = slices.Concat(b.ids[i+1:], b.ids[:i+1])
	}
}

// set takes in what a metadata response says, which leaves out brokers that are away.
func (b *brokers) set(list []kmsg.MetadataResponseBroker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var fresh []int32
	b.hosts = nil
	for i := range list {
		fresh = append(fresh, list[i].NodeID)
		b.hosts = append(b.hosts, net.JoinHostPort(list[i].Host, strconv.Itoa(int(list[i].Port))))
	}
	b.ids = slices.DeleteFunc(b.ids, func(id int32) bool { return !slices.Contains(fresh, id) })
	for _, id := range fresh {
		if !slices.Contains(b.ids, id) {
			b.ids = append(b.ids, id)
		}
	}
}
