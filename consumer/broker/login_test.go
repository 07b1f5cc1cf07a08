package broker

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// saslBroker is a broker at the other end of one connection. As Kafka, it closes the connection at a request after the
// session's end, and refuses a log-in within a second of the last one.
type saslBroker struct {
	lifetime time.Duration // of a session; 0: without an end
	refuse   string        // why it refuses all log-ins but the first
	mute     bool          // it answers no log-in but the first
	hold     time.Duration // how long an answer to a request for metadata takes

	ends      time.Time // of the session
	logins    []time.Time
	waiting   atomic.Int32 // requests that are not answered
	disorders atomic.Int32 // log-ins that came while a request was not answered
}

// serve answers requests in their order, and reads the next request meanwhile.
func (b *saslBroker) serve(conn net.Conn) {
	answers := make(chan func(), 10)
	defer close(answers)
	go func() {
		defer conn.Close() //nolint:errcheck // the client may have gone
		for answer := range answers {
			answer()
		}
	}()
	for {
		req, id, err := readRequest(conn)
		if err != nil {
			return
		}
		res := b.handle(req)
		if res == nil {
			return
		}
		frame := res.AppendTo(make([]byte, 8))
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
		binary.BigEndian.PutUint32(frame[4:], uint32(id))
		b.waiting.Add(1)
		answers <- func() {
			if req.Key() == int16(kmsg.Metadata) {
				time.Sleep(b.hold)
			}
			b.waiting.Add(-1)
			if b.mute && len(b.logins) > 1 {
				return
			}
			_, _ = conn.Write(frame) // the client may have gone
		}
	}
}

// handle returns the response; nil closes the connection.
func (b *saslBroker) handle(req kmsg.Request) kmsg.Response {
	res := req.ResponseKind()
	res.SetVersion(req.GetVersion())
	switch res := res.(type) {
	case *kmsg.SASLHandshakeResponse:
		if b.waiting.Load() > 0 {
			b.disorders.Add(1)
		}
		if n := len(b.logins); n > 0 && time.Since(b.logins[n-1]) < time.Second {
			res.ErrorCode = kerr.IllegalSaslState.Code
		}
		b.logins = append(b.logins, time.Now())
	case *kmsg.SASLAuthenticateResponse:
		if b.refuse != "" && len(b.logins) > 1 {
			res.ErrorCode, res.ErrorMessage = kerr.SaslAuthenticationFailed.Code, &b.refuse
			break
		}
		res.SessionLifetimeMillis = b.lifetime.Milliseconds()
		b.ends = time.Now().Add(b.lifetime)
	default:
		if b.lifetime > 0 && !time.Now().Before(b.ends) {
			return nil
		}
	}
	return res
}

// readRequest reads a request without tagged fields in its header.
func readRequest(r io.Reader) (kmsg.Request, int32, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, 0, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, 0, err
	}
	req := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(frame)))
	req.SetVersion(int16(binary.BigEndian.Uint16(frame[2:])))
	body := frame[10+binary.BigEndian.Uint16(frame[8:]):] // after the client's id
	return req, int32(binary.BigEndian.Uint32(frame[4:])), req.ReadFrom(body)
}

// openSession logs in at the broker, and returns the connection as kafka-go gets it.
func openSession(t *testing.T, b *saslBroker, m sasl.Mechanism, version int16) (*checkedConn, *Cluster) {
	t.Helper()
	c := NewCluster([]string{"broker.example:9092"}, nil, m, time.Minute)
	near, far := net.Pipe()
	go b.serve(far)
	o := offer{kmsg.SASLHandshake: {0, 1}, kmsg.SASLAuthenticate: {0, version}}
	s, err := c.logIn(t.Context(), near, c.bootstrap[0], o)
	if err != nil {
		t.Fatal(err)
	}
	conn := &checkedConn{Conn: near, offer: o, session: s}
	t.Cleanup(func() {
		_ = conn.Close()
		time.Sleep(b.hold)
	})
	return conn, c
}

// ask sends a request for metadata, and returns how long it took to write the request.
func ask(conn net.Conn, id int32) (time.Duration, error) {
	begun := time.Now()
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 4
	if _, err := conn.Write(formatter.AppendRequest(nil, req, id)); err != nil {
		return time.Since(begun), err
	}
	wrote := time.Since(begun)
	_, err := ReadResponse(conn, req, id, new([]byte))
	return wrote, err
}

// askUntil asks every quarter of a second, as live reading does, and returns the longest time to write a request.
func askUntil(conn net.Conn, end time.Time) (longest time.Duration, err error) {
	for id := int32(0); time.Now().Before(end); id++ {
		took, err := ask(conn, id)
		if longest = max(longest, took); err != nil {
			return longest, err
		}
		time.Sleep(250 * time.Millisecond)
	}
	return longest, nil
}

// mechanism is a mechanism whose Start is a function.
type mechanism func(ctx context.Context) error

func (mechanism) Name() string { return "TEST" }

func (m mechanism) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	return oneMessage{}, []byte("x"), m(ctx)
}

// oneMessage is a log-in by one message.
type oneMessage struct{}

func (oneMessage) Next(context.Context, []byte) (bool, []byte, error) { return true, nil, nil }

// TestSessionIsRenewed sends requests for ten minutes to brokers whose sessions last as the broker says.
func TestSessionIsRenewed(t *testing.T) {
	for name, test := range map[string]struct {
		lifetime    time.Duration
		version     int16
		least, most int64
	}{
		"ten seconds":       {10 * time.Second, 1, 60, 71},
		"an hour":           {time.Hour, 1, 0, 0},
		"eleven minutes":    {11 * time.Minute, 1, 1, 1}, // the latest renewal is due after 10 min 27 s
		"a little over 1 s": {1200 * time.Millisecond, 1, 400, 600},
		"no end":            {0, 1, 0, 0},
		"no end, version 0": {0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &saslBroker{lifetime: test.lifetime}
				conn, c := openSession(t, b, plain.Mechanism{}, test.version)
				if _, err := askUntil(conn, time.Now().Add(630*time.Second)); err != nil {
					t.Fatal(err)
				}
				succeeded, failed := c.Renewals()
				if succeeded < test.least || succeeded > test.most || failed != 0 {
					t.Errorf("%d renewals, %d failed, want %d to %d", succeeded, failed, test.least, test.most)
				}
				for i := range b.logins[1:] {
					if after := b.logins[i+1].Sub(b.logins[i]); after < 85*test.lifetime/100 {
						t.Fatalf("renewal after %v of %v", after, test.lifetime)
					}
				}
			})
		})
	}
}

// TestSessionIsRenewedAfterItsEnd asks on a connection that was unused for longer than its session.
func TestSessionIsRenewedAfterItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, c := openSession(t, &saslBroker{lifetime: 10 * time.Second}, plain.Mechanism{}, 1)
		time.Sleep(time.Minute)
		if _, err := ask(conn, 1); err != nil {
			t.Error(err)
		}
		if succeeded, _ := c.Renewals(); succeeded != 1 {
			t.Errorf("%d renewals, want 1", succeeded)
		}
	})
}

// TestSessionIsNotRenewedBesideRequests writes requests while others are not answered, as kafka-go's ConsumerGroup does.
// The log-ins come when all earlier requests are answered.
func TestSessionIsNotRenewedBesideRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &saslBroker{lifetime: 20 * time.Second, hold: 100 * time.Millisecond}
		conn, c := openSession(t, b, plain.Mechanism{}, 1)
		written := make(chan *kmsg.MetadataRequest, 10)
		read := make(chan error, 1)
		go func() {
			id := int32(0)
			for req := range written {
				if _, err := ReadResponse(conn, req, id, new([]byte)); err != nil {
					read <- err
					return
				}
				_ = conn.SetReadDeadline(time.Time{}) // as kafka-go, which knows nothing of a renewal
				id++
			}
			read <- nil
		}()
		for id := range int32(2000) {
			req := kmsg.NewPtrMetadataRequest()
			req.Version = 4
			if _, err := conn.Write(formatter.AppendRequest(nil, req, id)); err != nil {
				t.Fatal(err)
			}
			written <- req
			time.Sleep(time.Duration(50+id%10*60) * time.Millisecond)
		}
		close(written)
		if err := <-read; err != nil {
			t.Fatal(err)
		}
		succeeded, failed := c.Renewals()
		if succeeded < 30 || failed != 0 || b.disorders.Load() != 0 {
			t.Errorf("%d renewals, %d failed, %d beside requests; want at least 30, 0, 0", succeeded, failed, b.disorders.Load())
		}
	})
}

// TestMechanismThatCannotStart renews a session of a minute with a mechanism whose token endpoint fails or hangs for some
// seconds. No request fails, and none waits for long, while the session lasts.
func TestMechanismThatCannotStart(t *testing.T) {
	failed := errors.New("token endpoint: 503")
	for name, start := range map[string]func(ctx context.Context) error{
		"fails": func(context.Context) error { return failed },
		"hangs": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				down := func() bool { return time.Since(begun) > 30*time.Second && time.Since(begun) < 58*time.Second }
				m := mechanism(func(ctx context.Context) error {
					if down() {
						return start(ctx)
					}
					return nil
				})
				conn, c := openSession(t, &saslBroker{lifetime: time.Minute}, m, 1)
				longest, err := askUntil(conn, begun.Add(2*time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				if longest > startPatience {
					t.Errorf("a request waited for %v", longest)
				}
				if succeeded, failed := c.Renewals(); succeeded < 1 || failed < 1 || failed > 8 {
					t.Errorf("%d renewals, %d failed, want 1 or 2, and a few", succeeded, failed)
				}
			})
		})
	}
}

// TestFailedRenewal fails to renew a session in several ways. The request gets an error that says why.
func TestFailedRenewal(t *testing.T) {
	for name, test := range map[string]struct {
		broker  *saslBroker
		start   func(ctx context.Context) error
		want    string
		advice  string
		timeout bool
		within  time.Duration
	}{
		"the broker refuses": {
			broker: &saslBroker{refuse: "Cannot change principals during re-authentication"},
			want:   "renew the session: the broker refuses the log-in by TEST: Cannot change principals", advice: "a user that has changed takes effect on new connections",
		},
		"the broker is mute": {
			broker: &saslBroker{mute: true},
			want:   "renew the session: log in by TEST: ", timeout: true, within: 3 * time.Second, // kafka-go's deadline
		},
		"the mechanism cannot start": {
			start: func(context.Context) error { return errors.New("token endpoint: 503") },
			want:  "renew the session: log in by TEST: token endpoint: 503",
		},
		"the mechanism hangs": { // the broker does not, which Cluster must know
			start: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			want:  "renew the session: log in by TEST: context deadline exceeded", within: 3 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				again := false
				m := mechanism(func(ctx context.Context) error {
					if again && test.start != nil {
						return test.start(ctx)
					}
					return nil
				})
				b := cmp.Or(test.broker, new(saslBroker))
				b.lifetime = time.Minute
				conn, c := openSession(t, b, m, 1)
				again = true
				time.Sleep(70 * time.Second)
				if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
					t.Fatal(err)
				}
				took, err := ask(conn, 1)
				if err == nil || !strings.HasPrefix(err.Error(), test.want) {
					t.Fatalf("error %v, want %s", err, test.want)
				}
				if advice := c.advise(err); !strings.Contains(advice, test.advice) {
					t.Errorf("advice %q, want %q", advice, test.advice)
				}
				if isTimeout(err) != test.timeout || took > test.within {
					t.Errorf("%v: a time-out of the broker: %v, after %v", err, isTimeout(err), took)
				}
				if succeeded, failed := c.Renewals(); succeeded != 0 || failed != 1 {
					t.Errorf("%d renewals, %d failed, want 0 and 1", succeeded, failed)
				}
			})
		})
	}
}

// TestDeadlinesOutliveARenewal sets deadlines, renews the session, and wants the deadlines as they were.
func TestDeadlinesOutliveARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, c := openSession(t, &saslBroker{lifetime: time.Minute, hold: 10 * time.Second}, plain.Mechanism{}, 1)
		time.Sleep(58 * time.Second)
		if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := ask(conn, 1); !isTimeout(err) || time.Since(begun) != 2*time.Second {
			t.Errorf("error %v after %v, want a time-out after 2 s", err, time.Since(begun))
		}
		if succeeded, _ := c.Renewals(); succeeded != 1 {
			t.Errorf("%d renewals, want 1", succeeded)
		}
	})
}
