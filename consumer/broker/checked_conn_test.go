package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// damaged is a listener of a broker whose answers are damaged while damage is set.
type damaged struct {
	net.Listener
	damage *atomic.Pointer[func(frame []byte)]
}

func (l *damaged) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &damagedConn{conn, l.damage}, err
}

type damagedConn struct {
	net.Conn
	damage *atomic.Pointer[func(frame []byte)]
}

// Write gets a whole answer from kfake.
func (c *damagedConn) Write(frame []byte) (int, error) {
	if damage := c.damage.Load(); damage != nil {
		(*damage)(frame)
	}
	return c.Conn.Write(frame)
}

// TestDamagedResponseIsAnError damages the responses of a broker in ways that make kafka-go panic, or run out of
// memory. The request fails, and the next request succeeds once the responses are whole.
func TestDamagedResponseIsAnError(t *testing.T) {
	for name, damage := range map[string]func(frame []byte){
		"a negative length":     func(frame []byte) { frame[0] |= 0x80 },
		"a length of no id":     func(frame []byte) { binary.BigEndian.PutUint32(frame, 3) },
		"a length of 256 MiB":   func(frame []byte) { frame[0] |= 0x10 },
		"a host with a comma":   func(frame []byte) { copy(frame, bytes.Replace(frame, []byte("127.0"), []byte("127,0"), 1)) },
		"a billion elements":    func(frame []byte) { binary.BigEndian.PutUint32(frame[12:], 1<<30) },
		"the answer to another": func(frame []byte) { frame[7] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var damaging atomic.Pointer[func(frame []byte)]
			broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(func(network, address string) (net.Listener, error) {
				l, err := new(net.ListenConfig).Listen(t.Context(), network, address)
				return &damaged{l, &damaging}, err
			}))
			if err != nil {
				t.Fatal(err)
			}
			defer broker.Close()
			c := NewCluster(broker.ListenAddrs(), nil, nil, time.Minute)
			defer c.Close()
			if _, err := c.FetchMetadata(t.Context(), nil, false); err != nil {
				t.Fatal(err)
			}
			damaging.Store(&damage)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			for ctx.Err() == nil { // kafka-go asks for metadata by itself
				if _, err := c.FetchMetadata(ctx, nil, false); err == nil {
					t.Error("a damaged response is no error")
				}
			}
			damaging.Store(nil)
			if _, err := c.FetchMetadata(t.Context(), nil, false); err != nil {
				t.Errorf("whole responses: %v", err)
			}
		})
	}
}

// TestNegativeCountOfVersionsIsRefused checks the response for which kafka-go's ConsumerGroup allocates what a
// count says, even if it is negative.
func TestNegativeCountOfVersionsIsRefused(t *testing.T) {
	for count, refused := range map[uint32]bool{1: false, 0: true, 1 << 31: true, 1<<32 - 1: true} {
		body := make([]byte, 12) // an error code, the count and one version
		binary.BigEndian.PutUint32(body[2:], count)
		if err := (request{key: int16(kmsg.ApiVersions)}).check(body); (err != nil) != refused {
			t.Errorf("count %d: error %v, want an error: %v", int32(count), err, refused)
		}
	}
}

// TestDamagedGroupResponseIsRefused checks the parts of responses of a group's coordinator that the members
// encode.
func TestDamagedGroupResponseIsRefused(t *testing.T) {
	topics := kmsg.ConsumerMemberAssignment{Topics: []kmsg.ConsumerMemberAssignmentTopic{{Topic: "t", Partitions: []int32{0}}}}
	assignment := topics.AppendTo(nil)
	many := bytes.Clone(assignment)
	binary.BigEndian.PutUint32(many[2:], 1<<30)
	for _, test := range []struct {
		name       string
		assignment []byte
		refused    bool
	}{
		{"one topic", assignment, false},
		{"a billion topics", many, true},
		{"no assignment, after an error", nil, false},
	} {
		res := kmsg.NewPtrSyncGroupResponse()
		res.MemberAssignment = test.assignment
		if err := (request{key: res.Key()}).check(res.AppendTo(nil)); (err != nil) != test.refused {
			t.Errorf("%s: error %v, want an error: %v", test.name, err, test.refused)
		}
	}
}
