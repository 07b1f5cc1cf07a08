package server

import (
	"encoding/binary"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// damage is a way in which a corrupter damages an answer.
type damage int

const (
	flipAnyBit   damage = iota // one bit of the frame
	flipEarlyBit               // one bit of the first 80 bytes, which hold lengths, counts, ids and offsets
	cutFrame                   // the connection ends within the frame
	lieLength                  // the length of the frame is negative, huge or wrong
	repeatFrame                // the answer comes twice
	staleFrame                 // the answer before comes instead
	delayFrame                 // the answer comes late
	lieField                   // one field has an absurd value
	garbage                    // random bytes in a frame with the right length
)

const damages = int(garbage) + 1

func (d damage) String() string {
	return [...]string{"flip", "flip early", "cut", "length", "repeat", "stale", "delay", "field", "garbage"}[d]
}

// corrupter is the network between an in-process broker and Herald. It damages answers. It leaves clients alone
// that do not say that they are Herald.
type corrupter struct {
	rate atomic.Int64 // of 1,000 answers, this many are damaged

	mu   sync.Mutex
	rng  *rand.Rand
	done map[damage]int
}

func newCorrupter(seed uint64) *corrupter {
	return &corrupter{done: make(map[damage]int), rng: rand.New(rand.NewPCG(seed, 1))}
}

// listen replaces [net.Listen] in the broker.
func (c *corrupter) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address) //nolint:noctx // the signature is kfake's
	return &corruptListener{l, c}, err
}

type corruptListener struct {
	net.Listener
	*corrupter
}

func (l *corruptListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &corruptConn{Conn: conn, corrupter: l.corrupter, asked: make(map[uint32]apiVersion)}, nil
}

type apiVersion struct{ key, version int16 }

// corruptConn is a connection of the broker. kfake writes each answer by one call of Write.
type corruptConn struct {
	net.Conn
	*corrupter

	mu     sync.Mutex
	read   []byte // of a request that is not complete
	asked  map[uint32]apiVersion
	herald bool
	last   []byte
}

func (c *corruptConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.read = append(c.read, p[:n]...); len(c.read) >= 4; {
		size := 4 + int(binary.BigEndian.Uint32(c.read))
		if len(c.read) < size {
			break
		}
		if b := c.read[4:size]; len(b) >= 10 {
			c.asked[binary.BigEndian.Uint32(b[4:])] = apiVersion{int16(binary.BigEndian.Uint16(b)), int16(binary.BigEndian.Uint16(b[2:]))}
			id := int(int16(binary.BigEndian.Uint16(b[8:])))
			c.herald = id > 0 && 10+id <= len(b) && string(b[10:10+id]) == "herald"
		}
		c.read = c.read[size:]
	}
	return n, err
}

func (c *corruptConn) Write(frame []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.herald {
		return c.Conn.Write(frame)
	}
	last := c.last
	c.last = slices.Clone(frame)
	damaged, cut, late := c.damage(slices.Clone(frame), last, c.asked[binary.BigEndian.Uint32(frame[4:])])
	time.Sleep(late)
	if _, err := c.Conn.Write(damaged); err != nil {
		return 0, err
	}
	if cut {
		return 0, net.ErrClosed
	}
	return len(frame), nil
}

// damage damages a frame, or leaves it alone. last is the frame before.
func (c *corrupter) damage(frame, last []byte, asked apiVersion) (damaged []byte, cut bool, late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rng.Int64N(1000) >= c.rate.Load() {
		return frame, false, 0
	}
	d := damage(c.rng.IntN(damages))
	c.done[d]++
	switch d {
	case flipAnyBit:
		frame[c.rng.IntN(len(frame))] ^= 1 << c.rng.IntN(8)
	case flipEarlyBit:
		frame[c.rng.IntN(min(len(frame), 80))] ^= 1 << c.rng.IntN(8)
	case cutFrame:
		return frame[:c.rng.IntN(len(frame))], true, 0
	case lieLength:
		size := int32(binary.BigEndian.Uint32(frame))
		lies := []int32{-1, math.MinInt32, math.MaxInt32, 0, 3, 4, size - 1, size + 1, size / 2, 2 * size, size ^ math.MinInt32, 200 << 20}
		binary.BigEndian.PutUint32(frame, uint32(lies[c.rng.IntN(len(lies))]))
	case repeatFrame:
		frame = append(frame, frame...)
	case staleFrame:
		if last != nil {
			frame = last
		}
	case delayFrame:
		return frame, false, time.Duration(c.rng.IntN(1000)) * time.Millisecond
	case lieField:
		frame = c.lieFieldLocked(frame, asked)
	case garbage:
		for i := 8; i < len(frame); i++ {
			frame[i] = byte(c.rng.Uint32())
		}
	}
	return frame, false, 0
}

// lieFieldLocked decodes the answer, changes one field, and encodes the answer again.
func (c *corrupter) lieFieldLocked(frame []byte, asked apiVersion) []byte {
	res := kmsg.ResponseForKey(asked.key)
	if res == nil {
		return frame
	}
	res.SetVersion(asked.version)
	head := 8
	if res.IsFlexible() && asked.key != int16(kmsg.ApiVersions) {
		head++
	}
	if res.ReadFrom(frame[head:]) != nil {
		return frame
	}
	fields := listFields(reflect.ValueOf(res).Elem(), nil)
	c.lieLocked(fields[c.rng.IntN(len(fields))])
	out := append([]byte(nil), frame[:head]...)
	out = res.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

// listFields appends the fields of an answer to list, and the fields of its parts.
func listFields(v reflect.Value, list []reflect.Value) []reflect.Value {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			list = listFields(v.Elem(), list)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Version" && name != "UnknownTags" {
				list = listFields(v.Field(i), list)
			}
		}
	case reflect.Slice:
		list = append(list, v)
		for i := range min(v.Len(), 100) {
			if v.Type().Elem().Kind() != reflect.Uint8 {
				list = listFields(v.Index(i), list)
			}
		}
	default:
		list = append(list, v)
	}
	return list
}

// lieLocked gives the field an absurd value.
func (c *corrupter) lieLocked(v reflect.Value) {
	switch v.Kind() { //nolint:exhaustive // other kinds are not in answers
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		lies := []int64{0, 1, -1, 3, v.Int() + 1, v.Int() - 1, v.Int() + 100, v.Int() ^ 1<<c.rng.IntN(63), math.MinInt64, math.MaxInt64, math.MinInt32, math.MaxInt32, 1 << 40}
		v.SetInt(lies[c.rng.IntN(len(lies))])
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		lies := []string{"", "a", "127.0.0.1", "../../etc/passwd", "a\nb\x00\xff"}
		v.SetString(lies[c.rng.IntN(len(lies))])
	case reflect.Array:
		v.Index(c.rng.IntN(v.Len())).SetUint(uint64(c.rng.IntN(256)))
	case reflect.Slice:
		switch c.rng.IntN(4) {
		case 0:
			v.SetZero()
		case 1:
			v.Set(v.Slice(0, v.Len()/2))
		case 2:
			v.Set(reflect.AppendSlice(v, v))
		default: // a hundred thousand times the first element
			for v.Len() > 0 && v.Len() < 100_000 && v.Len()*int(v.Type().Elem().Size()) < 64<<20 {
				v.Set(reflect.AppendSlice(v, v))
			}
		}
	}
}

// counts returns how many answers were damaged in each way.
func (c *corrupter) counts() map[damage]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.done)
}
