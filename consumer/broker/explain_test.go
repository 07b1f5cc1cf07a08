package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// advertise makes the cluster advertise the address for its only broker, which gets the id 7.
func advertise(t *testing.T, broker *kfake.Cluster, address string) {
	t.Helper()
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	broker.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		res := req.ResponseKind().(*kmsg.MetadataResponse)
		res.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 7, Host: host, Port: int32(port)}}
		return res, nil, true
	})
}

// closedAddress returns an address at which nothing listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // this is its purpose
	return l.Addr().String()
}

func newFake(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	broker, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return broker
}

// TestErrorNamesTheAddressAndItsSource advertises an address that does not work, for a broker that answers at another
// one. The error of a request to the broker, and of a connection for a consumer group, names the advertised address,
// says who advertises it, and has the cause.
func TestErrorNamesTheAddressAndItsSource(t *testing.T) {
	dead := closedAddress(t)
	other := newFake(t, kfake.EnableSASL(), kfake.User("PLAIN", "herald", "secret"))
	other.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLHandshake}, TopLevel: true, Err: kerr.UnsupportedSaslMechanism, Count: -1})
	for name, test := range map[string]struct {
		address string
		sasl    sasl.Mechanism
		want    string
	}{
		"nothing listens":      {dead, nil, "dial tcp " + dead + ": connect: connection refused"},
		"no such host":         {"kafka.invalid:9092", nil, "lookup kafka.invalid"},
		"the listener closes":  {listenWith(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 4<<10)) }), nil, "(connection closed: is the listener there of another kind, with or without TLS or SASL? The listener of --brokers accepts"},
		"SASL is refused":      {other.ListenAddrs()[0], plain.Mechanism{Username: "herald", Password: "secret"}, "(SASL is refused there. The listener of --brokers accepts these flags: correct the broker's advertised.listeners"},
		"the listener is mute": {listenWith(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), nil, "i/o timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			var opts []kfake.Opt
			if test.sasl != nil {
				opts = append(opts, kfake.EnableSASL(), kfake.User("PLAIN", "herald", "secret"))
			}
			broker := newFake(t, opts...)
			advertise(t, broker, test.address)
			c := NewCluster(broker.ListenAddrs(), nil, test.sasl, time.Minute)
			if test.want == "i/o timeout" {
				c.transport.DialTimeout = time.Second
			}
			defer c.Close()
			if _, err := c.FetchMetadata(t.Context(), nil, false); err != nil {
				t.Fatal(err)
			}
			_, err := c.Request(t.Context(), 7, kmsg.NewPtrApiVersionsRequest(), nil)
			for _, want := range []string{fmt.Sprintf("ApiVersions to broker 7, advertised as %s by %s (advertised.listeners): ", test.address, broker.ListenAddrs()[0]), test.want} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
			}
			if !strings.HasPrefix(name, "no") { // the others are not errors of the dialer
				return
			}
			_, err = c.GroupDialer().DialContext(t.Context(), "tcp", test.address)
			for _, want := range []string{fmt.Sprintf("%s: advertised by %s (advertised.listeners): ", test.address, broker.ListenAddrs()[0]), test.want} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("consumer group: %v, want %q", err, want)
				}
			}
		})
	}
}

// TestErrorOfAnAddressThatWorked wants no doubt about the address of a broker that has answered there, and about an
// address in --brokers.
func TestErrorOfAnAddressThatWorked(t *testing.T) {
	broker, dead := newFake(t), closedAddress(t)
	address := broker.ListenAddrs()[0]
	c := NewCluster([]string{"localhost" + address[strings.Index(address, ":"):]}, nil, nil, time.Minute)
	defer c.Close()
	if _, err := c.FetchMetadata(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Request(t.Context(), 0, kmsg.NewPtrApiVersionsRequest(), nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.Request(t.Context(), 9, kmsg.NewPtrApiVersionsRequest(), nil)
	if want := "ApiVersions to broker 9: the broker has appeared just now, or left the cluster"; !errors.Is(err, kafka.BrokerNotAvailable) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	broker.Close()
	_, err = c.Request(t.Context(), 0, kmsg.NewPtrApiVersionsRequest(), nil)
	if want := "ApiVersions to broker 0 at " + address + ": "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	c = NewCluster([]string{dead, dead}, nil, nil, time.Minute)
	defer c.Close()
	_, err = c.Request(t.Context(), Any, kmsg.NewPtrApiVersionsRequest(), nil)
	if want := fmt.Sprintf("no Kafka broker answers at %s, %[1]s: connection refused", dead); err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
	c.roster.update([]kmsg.MetadataResponseBroker{{NodeID: 7, Host: "127.0.0.1", Port: 1}})
	c.bootstrap = []string{"127.0.0.1:1"}
	if got, want := c.explain(io.EOF, kmsg.NewPtrApiVersionsRequest(), 7, 0).Error(), "ApiVersions to broker 7 at 127.0.0.1:1: EOF"; !strings.HasPrefix(got, want) {
		t.Errorf("%s, want %q", got, want)
	}
}

// TestAdviceForAnAdvertisedListener checks the advice for errors of TLS.
func TestAdviceForAnAdvertisedListener(t *testing.T) {
	c := NewCluster([]string{"127.0.0.1:1"}, new(tls.Config), nil, time.Minute)
	for want, err := range map[string]error{
		"(no TLS is spoken there. The listener of --brokers accepts these flags: ": tls.RecordHeaderError{},
		"(correct the broker's advertised.listeners, or set --kafka-server-name":   &tls.CertificateVerificationError{Err: errors.New("x")},
		"(no answer: is TLS spoken there? The listener":                            fmt.Errorf("x: %w", context.DeadlineExceeded),
	} {
		if got := c.adviseListener(err); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if got := c.adviseListener(errors.New("x")); got != "" {
		t.Errorf("another error has the advice %q", got)
	}
}
