package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestWrongListenerNamesTheFlagToChange connects to listeners in a way that they do not expect.
func TestWrongListenerNamesTheFlagToChange(t *testing.T) {
	for name, test := range map[string]struct {
		tls     *tls.Config
		address string
		want    string
	}{
		"plain text to a TLS listener":     {nil, listenWith(t, func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 5)) }), "Add --kafka-tls or"},
		"plain text, the listener closes":  {nil, listenWith(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 4<<10)) }), "Add --kafka-tls or"},
		"plain text, the listener is mute": {nil, listenWith(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), ": is this a broker's address and port? ApiVersions: "},
		"TLS, the listener closes":         {&tls.Config{}, listenWith(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }), "Leave --kafka-tls out"},
		"TLS, the listener waits for more": {&tls.Config{}, listenWith(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), "leave --kafka-tls out"},
		"TLS, the listener answers in plain text": {&tls.Config{}, listenWith(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request")
		}), "the listener speaks no TLS: leave --kafka-tls out"},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewCluster([]string{test.address}, test.tls, nil, time.Minute)
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := c.CheckVersions(ctx); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestRefusedSASLNamesTheFlagToChange has a broker, which has answered before, refuse to authenticate. The
// error says what the broker says, and which flag to change.
func TestRefusedSASLNamesTheFlagToChange(t *testing.T) {
	for name, test := range map[string]struct {
		at   kmsg.Key
		err  *kerr.Error
		want []string
	}{
		"wrong password":    {kmsg.SASLAuthenticate, kerr.SaslAuthenticationFailed, []string{"the broker refuses the log-in by PLAIN: SASL_AUTHENTICATION_FAILED", "--kafka-sasl-password-file"}},
		"unknown mechanism": {kmsg.SASLHandshake, kerr.UnsupportedSaslMechanism, []string{"UNSUPPORTED_SASL_MECHANISM", "change --kafka-sasl-mechanism"}},
		"no SASL wanted":    {kmsg.SASLHandshake, kerr.IllegalSaslState, []string{"ILLEGAL_SASL_STATE", "leave --kafka-sasl-mechanism out"}},
	} {
		t.Run(name, func(t *testing.T) {
			broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.User("PLAIN", "herald", "secret"))
			if err != nil {
				t.Fatal(err)
			}
			defer broker.Close()
			broker.Fault(kfake.Fault{Keys: []kmsg.Key{test.at}, TopLevel: true, Err: test.err, Count: -1})
			c := NewCluster(broker.ListenAddrs(), nil, plain.Mechanism{Username: "herald", Password: "secret"}, time.Minute)
			defer c.Close()
			c.answered.Store(true)
			err = c.CheckVersions(t.Context())
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
			}
		})
	}
}

// TestMechanismThatHangsIsNotTakenForABroker connects with a mechanism whose token endpoint does not answer. Up to three
// clusters try, because the request may time out before the mechanism does if the machine stalls.
func TestMechanismThatHangsIsNotTakenForABroker(t *testing.T) {
	t.Parallel()
	broker := newFake(t, kfake.EnableSASL(), kfake.User("PLAIN", "herald", "secret"))
	hang := mechanism(func(ctx context.Context) error { <-ctx.Done(); return errors.New("the token endpoint does not answer") })
	want := "Metadata to " + broker.ListenAddrs()[0] + ": log in by TEST: the token endpoint does not answer"
	var got, silent error
	for range 3 {
		c := NewCluster(broker.ListenAddrs(), nil, hang, time.Minute)
		_, got = c.FetchMetadata(t.Context(), nil, false)
		silent = c.CheckAnswering(Any)
		c.Close()
		if got != nil && got.Error() == want && silent == nil {
			return
		}
	}
	t.Errorf("%v, want %s; the broker counts as silent: %v", got, want, silent)
}

// listenWith returns the address of a listener that serves one connection after the other. It closes a
// connection when serve returns.
func listenWith(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { _ = c.Close() })
			serve(c)
			stop()
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return l.Addr().String()
}
