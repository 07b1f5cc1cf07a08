package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestErrorsNameTheAdvertisedAddress runs the commands that write to Kafka with a broker that advertises an address at
// which nothing listens. Each prints this address, and who advertises it, instead of the address in --brokers alone.
func TestErrorsNameTheAdvertisedAddress(t *testing.T) {
	srv, _ := startServer(t, devRoutes[:1])
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	broker.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		res := req.ResponseKind().(*kmsg.MetadataResponse)
		res.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 7, Host: "127.0.0.1", Port: 1}}
		for _, topic := range req.(*kmsg.MetadataRequest).Topics {
			res.Topics = append(res.Topics, kmsg.MetadataResponseTopic{
				Topic: topic.Topic, TopicID: [16]byte{1}, Partitions: []kmsg.MetadataResponseTopicPartition{{Leader: 7}},
			})
		}
		return res, nil, true
	})
	address := broker.ListenAddrs()[0]
	want := fmt.Sprintf("broker 7, advertised as 127.0.0.1:1 by %s (advertised.listeners): ", address)
	for name, args := range map[string][]string{
		"produce": {"produce", "--user=alice", "x"},
		"revoke":  {"revoke", "--topic=revocations", "--user=alice"},
		"bench":   {"bench", "--url=http://" + srv.Addr().String(), "--patience=1s"},
	} {
		code, stderr := start(t, with(args, "--brokers="+address)...)
		for _, want := range []string{want, "dial tcp 127.0.0.1:1: connect: connection refused"} {
			if code != exitFailed || !strings.Contains(stderr, want) {
				t.Errorf("%s: exit code %d, %q, want %d and %q", name, code, stderr, exitFailed, want)
			}
		}
	}
}
