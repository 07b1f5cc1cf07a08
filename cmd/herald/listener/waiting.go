package listener

import (
	"container/heap"
	"container/list"
	"net"
	"net/netip"
)

// waiting has the connections that wait for their clients, grouped by the network that they come from.
// It decides which of them closes first to make room: the longest-waiting connection of the network
// that has the most waiting connections. A client that floods the server therefore drives out its own
// connections. Between networks with equally many connections, the longest-waiting one closes first.
type waiting struct {
	networks map[netip.Prefix]*network
	order    networks
	added    uint64
}

func newWaiting() waiting { return waiting{networks: make(map[netip.Prefix]*network)} }

// network has the waiting connections of one network, the longest-waiting one first.
type network struct {
	prefix netip.Prefix
	conns  list.List // of *limitedConn
	at     int       // index in networks
}

func (n *network) first() *limitedConn { return n.conns.Front().Value.(*limitedConn) } //nolint:forcetypeassert // the list has nothing else

// first returns the connection that closes first; nil if no connection waits.
func (w *waiting) first() *limitedConn {
	if len(w.order) == 0 {
		return nil
	}
	return w.order[0].first()
}

func (w *waiting) add(c *limitedConn) {
	w.added++
	c.since = w.added
	n := w.networks[c.from]
	if n == nil {
		n = &network{prefix: c.from}
		c.place = n.conns.PushBack(c)
		w.networks[c.from] = n
		heap.Push(&w.order, n)
		return
	}
	c.place = n.conns.PushBack(c)
	heap.Fix(&w.order, n.at)
}

// remove does nothing if the connection does not wait.
func (w *waiting) remove(c *limitedConn) {
	if c.place == nil {
		return
	}
	n := w.networks[c.from]
	if n.conns.Len() == 1 {
		heap.Remove(&w.order, n.at)
		delete(w.networks, c.from)
	} else {
		n.conns.Remove(c.place)
		heap.Fix(&w.order, n.at)
	}
	c.place = nil
}

// networks is a heap; the first network has the most waiting connections.
type networks []*network

// Len implements [heap.Interface].
func (n networks) Len() int { return len(n) }

// Less implements [heap.Interface].
func (n networks) Less(i, j int) bool {
	if a, b := n[i].conns.Len(), n[j].conns.Len(); a != b {
		return a > b
	}
	return n[i].first().since < n[j].first().since
}

// Swap implements [heap.Interface].
func (n networks) Swap(i, j int) {
	n[i], n[j] = n[j], n[i]
	n[i].at, n[j].at = i, j
}

// Push implements [heap.Interface].
func (n *networks) Push(x any) {
	added := x.(*network) //nolint:forcetypeassert // only waiting.add pushes
	added.at = len(*n)
	*n = append(*n, added)
}

// Pop implements [heap.Interface].
func (n *networks) Pop() any {
	last := len(*n) - 1
	removed := (*n)[last]
	(*n)[last] = nil
	*n = (*n)[:last]
	return removed
}

// networkOf returns the network of a client: its IPv4 address, or the /64 network of its IPv6 address,
// because one client may have all addresses of a /64.
func networkOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	prefix, _ := ip.Prefix(min(ip.BitLen(), 64)) // no error: the address has that many bits
	return prefix
}
