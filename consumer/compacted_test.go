package consumer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestCheckCompacted wants topics named from which Kafka deletes records by age. Without the right to ask, nothing is said.
func TestCheckCompacted(t *testing.T) {
	cluster := newBroker(t)
	p := NewProducer(cluster.ListenAddrs(), nil, nil)
	t.Cleanup(p.Close)
	for i, test := range []struct {
		policy string
		denied bool
		want   string // empty: no error
	}{
		{"delete", false, "cleanup.policy=delete, so Kafka deletes"},
		{"compact,delete", false, "cleanup.policy=compact,delete"},
		{"compact", false, ""},
		{"delete", true, ""},
	} {
		topic := fmt.Sprintf("t%d", i)
		if err := cluster.CreateTopic(topic, 1, map[string]string{"cleanup.policy": test.policy}); err != nil {
			t.Fatal(err)
		}
		if test.denied {
			cluster.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
				res := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
				res.SetVersion(req.GetVersion())
				res.Resources = append(res.Resources, kmsg.DescribeConfigsResponseResource{ResourceName: topic, ErrorCode: kerr.TopicAuthorizationFailed.Code})
				return res, nil, true
			})
		}
		err := p.CheckCompacted(t.Context(), topic)
		if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v", test, err)
		}
	}
}
