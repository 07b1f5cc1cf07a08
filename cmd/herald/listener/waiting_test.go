package listener

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFirstToClose wants connections of the network with the most connections to close first, and the
// longest-waiting one among them.
func TestFirstToClose(t *testing.T) {
	w := newWaiting()
	var conns []*limitedConn
	for _, address := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.2", "::ffff:192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.3"} {
		c := &limitedConn{from: networkOf(&net.TCPAddr{IP: net.ParseIP(address)})}
		conns = append(conns, c)
		w.add(c)
	}
	w.remove(conns[7])
	w.remove(conns[7])
	var got []int
	for c := w.first(); c != nil; c = w.first() {
		for i := range conns {
			if conns[i] == c {
				got = append(got, i)
			}
		}
		w.remove(c)
		if len(got) == 1 { // it is added again, and waits since now
			w.add(c)
		}
	}
	// Connection 1 comes back after 3. Then 2, 3 and 1 are three connections again, and 4 and 5 are two.
	if diff := cmp.Diff([]int{1, 2, 3, 4, 0, 5, 6, 1}, got); diff != "" {
		t.Errorf("order of closing (-want +got):\n%s", diff)
	}
	if len(w.networks) != 0 {
		t.Errorf("%d networks are kept", len(w.networks))
	}
}
