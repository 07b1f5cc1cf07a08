package main

import (
	"container/heap"
	"container/list"
	"net"
	"net/netip"
)

// waiting are the connections that wait for a request, by the network that they come from. The first to
// give way is of the network that has the most of them: who floods the server drives out connections of
// its own. Of one network, and of networks that have as many, it is the connection that has waited longest.
type waiting struct {
	networks map[netip.Prefix]*network
	order    networks
	added    uint64
}

// network has the connections of a network that wait, the longest first.
type network struct {
	prefix netip.Prefix
	conns  list.List // of *limitedConn
	at     int       // in networks
}

func (n *network) first() *limitedConn { return n.conns.Front().Value.(*limitedConn) } //nolint:forcetypeassert // nothing else is in there

// first returns the connection that is to give way; nil if none waits.
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

// networks is a heap, the one with the most connections first.
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
	added := x.(*network) //nolint:forcetypeassert // from [waiting.add]
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

// networkOf returns an address of IPv4, or the /64 of one of IPv6, which one client may have all of.
func networkOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	prefix, _ := ip.Prefix(min(ip.BitLen(), 64)) // an address has as many bits
	return prefix
}
