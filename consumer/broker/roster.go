package broker

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// silentFor is how long a broker that did not answer a request for any broker is asked last.
	silentFor = 30 * time.Second

	// hungFor is how long [Cluster.CheckAnswering] reports a broker that let a request time out. Live
	// reading sends requests to such a broker all the same. hungFor is longer than they take, so that the
	// next one has timed out before the report of the last one ends.
	hungFor = 2 * RequestTimeout
)

// roster lists the brokers of the cluster. It decides which of them to ask first, and remembers which of
// them do not answer. Brokers take turns, because a broker that is cut off from the others may answer
// for long with metadata that is out of date.
type roster struct {
	mu     sync.Mutex
	ids    []int32             // in the order in which to ask them; empty before the first metadata
	hosts  map[int32]string    // host:port of the brokers in ids; a map is replaced, not changed
	silent map[int32]time.Time // when the broker failed to answer a request for any broker; none once it answers such a request
	hung   map[int32]time.Time // when the broker let a request time out; none once it answers any request
	heard  map[int32]time.Time // when the broker answered last
	at     map[int32]string    // where the broker answered last, host:port
}

func newRoster() *roster {
	return &roster{silent: make(map[int32]time.Time), hung: make(map[int32]time.Time), heard: make(map[int32]time.Time), at: make(map[int32]string)}
}

// CheckAnswering returns an error if the broker let a request time out less than twice [RequestTimeout] ago and
// answered none since. A caller that can try again later then need not wait for the next request to time out.
func (c *Cluster) CheckAnswering(broker int32) error { return c.roster.checkAnswering(broker) }

func (r *roster) checkAnswering(id int32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if since, hung := r.hung[id]; hung && time.Since(since) < hungFor {
		return fmt.Errorf("broker %d at %s does not answer", id, r.hosts[id])
	}
	return nil
}

// recordOutcome notes that a request to the broker, sent at begun, succeeded or failed. A time-out counts
// only if the broker answered no other request since begun: otherwise it is slow at this one, or a
// connection was lost.
func (r *roster) recordOutcome(id int32, begun time.Time, err error) {
	timeout, ok := errors.AsType[net.Error](err)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		delete(r.hung, id)
		r.heard[id], r.at[id] = time.Now(), r.hosts[id]
	case ok && timeout.Timeout() && !r.heard[id].After(begun):
		r.hung[id] = time.Now()
	}
}

// listInOrder returns the brokers in the order in which to ask them: brokers that answered, brokers that
// did not answer lately, then [Any] for the bootstrap brokers.
func (r *roster) listInOrder() []int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list, silent []int32
	for _, id := range r.ids {
		if since, ok := r.silent[id]; ok && time.Since(since) < silentFor {
			silent = append(silent, id)
		} else {
			list = append(list, id)
		}
	}
	return append(append(list, silent...), Any)
}

// recordSilence notes that the broker did not answer a request that any broker can answer.
func (r *roster) recordSilence(id int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent[id] = time.Now()
}

// recordTurn notes that the broker answered a request that any broker can answer. It puts the broker, and
// the brokers before it in the list, at the list's end.
func (r *roster) recordTurn(id int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.silent, id)
	if i := slices.Index(r.ids, id); i >= 0 {
		r.ids = slices.Concat(r.ids[i+1:], r.ids[:i+1])
	}
}

// find returns the broker's address, and whether the broker has answered there. The address is empty if no metadata
// had it.
func (r *roster) find(id int32) (address string, reached bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	address = cmp.Or(r.hosts[id], r.at[id]) // metadata leaves out a broker that is down
	return address, address != "" && address == r.at[id]
}

// hasReached reports whether a broker has answered at the address.
func (r *roster) hasReached(address string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.at {
		if at == address {
			return true
		}
	}
	return false
}

// addresses returns host:port of all brokers, the broker that answered last in front.
func (r *roster) addresses() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, id := range slices.Backward(r.ids) {
		list = append(list, r.hosts[id])
	}
	return list
}

// update takes over the brokers of a metadata response, which leaves out brokers that are down. Brokers
// known before keep their place in the order. It returns host:port of each broker.
func (r *roster) update(list []kmsg.MetadataResponseBroker) map[int32]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	hosts := make(map[int32]string, len(list))
	for i := range list {
		id := list[i].NodeID
		_, before := r.hosts[id]
		if _, twice := hosts[id]; !before && !twice {
			r.ids = append(r.ids, id)
		}
		hosts[id] = net.JoinHostPort(list[i].Host, strconv.Itoa(int(list[i].Port)))
	}
	r.ids = slices.DeleteFunc(r.ids, func(id int32) bool { _, listed := hosts[id]; return !listed })
	r.hosts = hosts
	return hosts
}

// Lists reports whether the last metadata response lists the broker.
func (c *Cluster) Lists(broker int32) bool {
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	_, listed := c.roster.hosts[broker]
	return listed
}
