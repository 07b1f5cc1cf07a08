package consumer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestUnreachableLeaderIsNamed runs a consumer on a broker that advertises an address at which nothing listens. The
// log, and the reason for which the consumer is not ready, have this address and where it comes from.
func TestUnreachableLeaderIsNamed(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "t"))
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
	c, _, _ := startAt(t, broker, "t")
	want := fmt.Sprintf("ListOffsets to broker 7, advertised as 127.0.0.1:1 by %s (advertised.listeners): dial tcp 127.0.0.1:1: connect: connection refused", broker.ListenAddrs()[0])
	hear(t, c).wait(t, "WARN broker cannot be read; retrying broker=7 …error="+want)
	waitFor(t, "the reason", func() bool {
		err := c.Ready()
		return err != nil && strings.HasSuffix(err.Error(), want)
	})
}
