package consumer

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	clientID = "herald"

	// anyBroker routes a request to whichever bootstrap broker answers.
	anyBroker = -1

	// maxResponse bounds what one response may make us allocate. Kafka's largest sensible
	// response is one fetch of the bytes asked for plus one oversized batch.
	maxResponse = 256 << 20

	// requestTimeout bounds every request that is not a long poll.
	requestTimeout = 10 * time.Second
)

// ErrUnsupportedBroker says that a broker does not speak the protocol versions Herald needs:
// Apache Kafka 3.1 or later (Fetch v13, KIP-516).
var ErrUnsupportedBroker = errors.New("broker is too old: Herald needs Apache Kafka 3.1 or later")

// cluster sends single requests to the brokers of one Kafka cluster over kafka-go's connections.
type cluster struct {
	addr      net.Addr
	transport *kafka.Transport
	brokers   *brokers
	answered  atomic.Bool // so the way of connecting is right
}

// newCluster needs brokers as host:port. The transport's own view of the cluster is used only to
// find brokers' addresses, so it asks for no topics.
//
// idle is how long an unused connection is kept. A broker that restarts closes its connections, which
// is noticed at the next request only.
func newCluster(brokers []string, tlsConfig *tls.Config, mechanism sasl.Mechanism, idle time.Duration) *cluster {
	return &cluster{
		addr:    kafka.TCP(brokers...),
		brokers: newBrokers(),
		transport: &kafka.Transport{
			ClientID:       clientID,
			DialTimeout:    5 * time.Second,
			IdleTimeout:    idle,
			MetadataTTL:    2 * time.Second,
			MetadataTopics: []string{},
			TLS:            tlsConfig,
			SASL:           mechanism,
		},
	}
}

func (c *cluster) close() { c.transport.CloseIdleConnections() }

// request sends req to a broker and returns the response. A negative broker means any of them.
//
// buf, if not nil, is where the response is read into; the response points into it. When request
// returns an error the buffer may still be written to and must be abandoned: a cancelled round
// trip does not stop the read under it.
func (c *cluster) request(ctx context.Context, broker int32, req kmsg.Request, buf *[]byte) (kmsg.Response, error) {
	if buf == nil {
		buf = new([]byte)
	}
	begun := time.Now()
	res, err := c.transport.RoundTrip(ctx, c.addr, &exchange{req: req, broker: broker, buf: buf})
	c.brokers.outcome(broker, begun, err)
	if err != nil {
		to := fmt.Sprint("broker ", broker)
		if broker == anyBroker {
			to = "any broker"
		}
		return nil, fmt.Errorf("%s v%d to %s: %w%s", kmsg.NameForKey(req.Key()), req.GetVersion(), to, err, c.advice(err))
	}
	c.answered.Store(true)
	return res.(*reply).Response, nil
}

// advice says what may be wrong, and which flag mends it: where the broker has said what it does not
// like and, while brokers have never answered, where it closes the connection, or waits for more,
// because it cannot read a request or does not like who sends it.
func (c *cluster) advice(err error) string {
	switch {
	case errors.Is(err, kafka.SASLAuthenticationFailed):
		return " (see --kafka-sasl-user and --kafka-sasl-password-file, and whether the user has a password for this --kafka-sasl-mechanism)"
	case errors.Is(err, kafka.UnsupportedSASLMechanism):
		return " (the listener has other mechanisms: mend --kafka-sasl-mechanism)"
	case errors.Is(err, kafka.IllegalSASLState):
		return " (the listener wants no SASL: leave --kafka-sasl-mechanism out, or name a listener that does in --brokers)"
	case c.answered.Load():
		return ""
	}
	secure, user := c.transport.TLS != nil, c.transport.SASL != nil
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return " (--kafka-ca-file names the authorities that sign the brokers' certificates, --kafka-server-name the name that is in them)"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return " (the listener speaks no TLS: leave --kafka-tls out, or name a listener that does in --brokers)"
	}
	if secure && errors.Is(err, context.DeadlineExceeded) {
		return " (no answer: does the listener speak TLS? If not, leave --kafka-tls out, or name one that does in --brokers)"
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return ""
	}
	switch {
	case user && secure:
		return " (connection closed: does the listener speak TLS, and does it want this SASL mechanism? See --kafka-tls and --kafka-sasl-mechanism)"
	case user:
		return " (connection closed: does the listener want TLS, or another SASL mechanism? Add --kafka-tls, or mend --kafka-sasl-mechanism)"
	case secure:
		return " (connection closed: does the listener speak TLS, and does it want SASL? Leave --kafka-tls out, or add --kafka-sasl-mechanism)"
	default:
		return " (connection closed: does the listener want TLS or SASL? Add --kafka-tls or --kafka-sasl-mechanism)"
	}
}

// exchange is one request on a kafka-go connection in an encoding of our choice. kafka-go calls
// Broker to pick the connection and RawExchange to use it.
type exchange struct {
	req    kmsg.Request
	broker int32
	buf    *[]byte
}

// reply carries the decoded response through kafka-go, which wants a protocol.Message.
type reply struct {
	kmsg.Response
}

// ApiKey implements [protocol.Message].
func (r *reply) ApiKey() protocol.ApiKey { return protocol.ApiKey(r.Key()) } //nolint:revive // kafka-go's name

// ApiKey implements [protocol.Message].
func (x *exchange) ApiKey() protocol.ApiKey { return protocol.ApiKey(x.req.Key()) } //nolint:revive // kafka-go's name

func (x *exchange) Broker(protocol.Cluster) (protocol.Broker, error) {
	return protocol.Broker{ID: x.broker}, nil
}

func (x *exchange) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange writes the request and reads its response. A connection carries one request at a
// time, so the correlation id only guards against a broker that answers something else.
func (x *exchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	const correlation = 1
	formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID))
	if _, err := rw.Write(formatter.AppendRequest(nil, x.req, correlation)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return nil, err
	}
	size := int32(binary.BigEndian.Uint32(head[:4])) - 4
	if size < 0 || size > maxResponse {
		return nil, fmt.Errorf("response of %d bytes (at most %d)", size, maxResponse)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != correlation {
		return nil, fmt.Errorf("response to request %d, expected %d", got, correlation)
	}
	body, err := readBody(rw, x.buf, int(size))
	if err != nil {
		return nil, err
	}
	res := x.req.ResponseKind()
	res.SetVersion(x.req.GetVersion())
	if res.IsFlexible() && res.Key() != int16(protocol.ApiVersions) {
		if body, err = skipTags(body); err != nil {
			return nil, err
		}
	}
	if err := res.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("decode response: %w", err)
	}
	return &reply{res}, nil
}

// readBody reads n bytes into *buf, growing it as the bytes arrive so that a size alone, without
// the bytes behind it, makes nobody allocate.
func readBody(r io.Reader, buf *[]byte, n int) ([]byte, error) {
	const step = 4 << 20
	b := (*buf)[:0]
	for len(b) < n {
		part := min(n-len(b), max(step, cap(b)-len(b)))
		if cap(b)-len(b) < part {
			grown := make([]byte, len(b), max(len(b)+part, min(2*cap(b), n+n/8)))
			copy(grown, b)
			b = grown
		}
		if _, err := io.ReadFull(r, b[len(b):len(b)+part]); err != nil {
			return nil, err
		}
		b = b[:len(b)+part]
	}
	*buf = b
	return b, nil
}

// skipTags passes over the tagged fields of a flexible response header (KIP-482).
func skipTags(b []byte) ([]byte, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, io.ErrUnexpectedEOF
	}
	b = b[n:]
	for range count {
		_, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, io.ErrUnexpectedEOF
		}
		size, m := binary.Uvarint(b[n:])
		if m <= 0 || size > uint64(len(b)) {
			return nil, io.ErrUnexpectedEOF
		}
		tag := n + m + int(size) //nolint:gosec // bounded by the length of b
		if tag > len(b) {
			return nil, io.ErrUnexpectedEOF
		}
		b = b[tag:]
	}
	return b, nil
}

// check makes sure that the cluster speaks the versions Herald sends, so that an old broker gives
// a clear error instead of closed connections.
func (c *cluster) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := kmsg.NewPtrApiVersionsRequest()
	res, err := c.request(ctx, anyBroker, req, nil)
	if err != nil {
		return err
	}
	for _, k := range res.(*kmsg.ApiVersionsResponse).ApiKeys {
		if k.ApiKey == int16(protocol.Fetch) && (k.MaxVersion < fetchVersion || k.MinVersion > fetchVersion) {
			return fmt.Errorf("%w (Fetch v%d to v%d, need v%d)", ErrUnsupportedBroker, k.MinVersion, k.MaxVersion, fetchVersion)
		}
	}
	return nil
}

// Special offsets of ListOffsets (KIP-79, KIP-734).
const (
	offsetLatest   = -1
	offsetEarliest = -2
)

// offsetsAsked are partitions by their leaders, each with the special offset that is asked for.
type offsetsAsked map[int32]map[Partition]int64

func (a offsetsAsked) add(leader int32, p Partition, which int64) {
	if a[leader] == nil {
		a[leader] = make(map[Partition]int64)
	}
	a[leader][p] = which
}

// listAllOffsets is listLeaderOffsets of partitions of several leaders, which are asked side by side.
func (c *cluster) listAllOffsets(ctx context.Context, asked offsetsAsked) (map[Partition]int64, error) {
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		failed  error
		offsets = make(map[Partition]int64)
	)
	for leader, which := range asked {
		wg.Go(func() {
			var found map[Partition]int64
			err := c.brokers.answers(leader)
			if err == nil {
				found, err = c.listLeaderOffsets(ctx, leader, which)
			}
			mu.Lock()
			maps.Copy(offsets, found)
			failed = cmp.Or(failed, err)
			mu.Unlock()
		})
	}
	wg.Wait()
	return offsets, failed
}

// listLeaderOffsets is listOffsets of any number of partitions, as a read_committed consumer sees them.
// With an error there may be answers for some; there are none, nil, from a leader that does not answer.
func (c *cluster) listLeaderOffsets(ctx context.Context, leader int32, which map[Partition]int64) (map[Partition]int64, error) {
	const most = 1000 // partitions in a request
	var (
		failed  error
		offsets map[Partition]int64
	)
	for part := range slices.Chunk(slices.Collect(maps.Keys(which)), most) {
		chunk := make(map[Partition]int64, len(part))
		for _, p := range part {
			chunk[p] = which[p]
		}
		found, err := c.listOffsets(ctx, leader, chunk, readCommitted)
		failed = cmp.Or(failed, err)
		if found == nil { // it would not answer the rest either
			break
		}
		if offsets == nil {
			offsets = make(map[Partition]int64, len(which))
		}
		maps.Copy(offsets, found)
	}
	return offsets, failed
}

// listOffset is listOffsets of one partition.
func (c *cluster) listOffset(ctx context.Context, leader int32, p Partition, which int64, isolation int8) (int64, error) {
	offsets, err := c.listOffsets(ctx, leader, map[Partition]int64{p: which}, isolation)
	return offsets[p], err
}

// listOffsets asks the partitions' leader for special offsets: the first, or the end, with
// readCommitted the one that a read_committed consumer sees (the last stable offset, KIP-98), else
// the high watermark. With an error there may be answers for some; there are none, nil, if the leader
// does not answer.
func (c *cluster) listOffsets(ctx context.Context, leader int32, which map[Partition]int64, isolation int8) (map[Partition]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 7
	req.ReplicaID = -1
	req.IsolationLevel = isolation
	topics := make(map[string]int)
	for p, offset := range which {
		i, ok := topics[p.Topic]
		if !ok {
			i = len(req.Topics)
			topics[p.Topic] = i
			topic := kmsg.NewListOffsetsRequestTopic()
			topic.Topic = p.Topic
			req.Topics = append(req.Topics, topic)
		}
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp, part.CurrentLeaderEpoch = p.ID, offset, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, part)
	}
	res, err := c.request(ctx, leader, req, nil)
	if err != nil {
		return nil, err
	}
	offsets := make(map[Partition]int64, len(which))
	for _, t := range res.(*kmsg.ListOffsetsResponse).Topics {
		for _, got := range t.Partitions {
			p := Partition{t.Topic, got.Partition}
			if refused := kerr.ErrorForCode(got.ErrorCode); refused != nil {
				err = fmt.Errorf("list offsets of %s: %w", p, refused)
				continue
			}
			offsets[p] = got.Offset
		}
	}
	for p := range which {
		if _, ok := offsets[p]; !ok && err == nil {
			err = fmt.Errorf("list offsets of %s: no answer for it", p)
		}
	}
	return offsets, err
}
