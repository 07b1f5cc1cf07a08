package consumer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	askTimeout = requestTimeout / 3 // what one broker may take to answer what any broker can
	askLast    = 30 * time.Second   // for so long one that did not answer is asked last

	// hungFor is how long replays and what streams ask do without a broker that has let a request time out
	// and has answered none since. It is longer than the requests take that are sent there all the same.
	hungFor = 2 * requestTimeout
)

// brokers are those that the cluster was last said to have, from whom to ask first, and which of them do
// not answer. They take turns: one that is cut off from the others may answer for long with what it knew.
type brokers struct {
	mu     sync.Mutex
	ids    []int32             // empty before the first metadata
	silent map[int32]time.Time // when they had no answer to what any broker can, until they have: asked last
	hung   map[int32]time.Time // when they let a request time out, until they answer one: replays do without
	heard  map[int32]time.Time // when they answered last
	hosts  map[int32]string    // host:port
}

func newBrokers() *brokers {
	return &brokers{silent: make(map[int32]time.Time), hung: make(map[int32]time.Time), heard: make(map[int32]time.Time)}
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
		c.brokers.silence(id)
	}
	return nil, first
}

// coordinate sends req to the coordinator of the group, which any broker knows.
func (c *cluster) coordinate(ctx context.Context, group string, req kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKey = 2, group
	res, err := c.ask(ctx, find)
	if err != nil {
		return nil, err
	}
	found := res.(*kmsg.FindCoordinatorResponse)
	if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
		return nil, fmt.Errorf("coordinator of group %s: %w", group, err)
	}
	return c.request(ctx, found.NodeID, req, nil)
}

// order returns whom to ask, the addresses that we were told of last.
func (b *brokers) order() []int32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list, silent []int32
	for _, id := range b.ids {
		if since, ok := b.silent[id]; ok && time.Since(since) < askLast {
			silent = append(silent, id)
		} else {
			list = append(list, id)
		}
	}
	return append(append(list, silent...), anyBroker)
}

// silence notes that the broker has not answered what any can.
func (b *brokers) silence(id int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.silent[id] = time.Now()
}

// outcome notes what has become of a request to the broker. One that has answered others meanwhile is slow at
// that, or a connection was lost.
func (b *brokers) outcome(id int32, begun time.Time, err error) {
	timeout, ok := errors.AsType[net.Error](err)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		delete(b.hung, id)
		b.heard[id] = time.Now()
	case ok && timeout.Timeout() && !b.heard[id].After(begun):
		b.hung[id] = time.Now()
	}
}

// answers returns an error if the broker answers nothing now: who can try again later need not wait for a
// request to time out.
func (b *brokers) answers(id int32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if since, hung := b.hung[id]; hung && time.Since(since) < hungFor {
		return fmt.Errorf("broker %d does not answer", id)
	}
	return nil
}

// addresses returns host:port of all brokers, the one that answered last first.
func (b *brokers) addresses() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for _, id := range slices.Backward(b.ids) {
		list = append(list, b.hosts[id])
	}
	return list
}

// turn puts the broker, which has answered, and those before it, which have not, behind the others.
func (b *brokers) turn(id int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.silent, id)
	if i := slices.Index(b.ids, id); i >= 0 {
		b.ids = slices.Concat(b.ids[i+1:], b.ids[:i+1])
	}
}

// set takes in what a metadata response says, which leaves out brokers that are away.
func (b *brokers) set(list []kmsg.MetadataResponseBroker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var fresh []int32
	b.hosts = make(map[int32]string)
	for i := range list {
		fresh = append(fresh, list[i].NodeID)
		b.hosts[list[i].NodeID] = net.JoinHostPort(list[i].Host, strconv.Itoa(int(list[i].Port)))
	}
	b.ids = slices.DeleteFunc(b.ids, func(id int32) bool { return !slices.Contains(fresh, id) })
	for _, id := range fresh {
		if !slices.Contains(b.ids, id) {
			b.ids = append(b.ids, id)
		}
	}
}
