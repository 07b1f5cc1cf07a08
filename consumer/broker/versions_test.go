package broker

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TestRequestHasTheHighestVersionOfBoth sends requests to a broker of Kafka 2.1, and to one that speaks newer versions than
// Herald.
func TestRequestHasTheHighestVersionOfBoth(t *testing.T) {
	for name, test := range map[string]struct {
		versions              *kversion.Versions
		metadata, listOffsets int16
	}{
		"Kafka 2.1":        {kversion.V2_1_0(), 7, 4},
		"a broker of 2026": {nil, 10, 7},
	} {
		t.Run(name, func(t *testing.T) {
			broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.MaxVersions(test.versions))
			if err != nil {
				t.Fatal(err)
			}
			defer broker.Close()
			asked := make(chan [2]int16, 100)
			broker.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
				broker.KeepControl()
				if m, ok := req.(*kmsg.MetadataRequest); !ok || len(m.Topics) > 0 { // kafka-go's own requests name no topic
					asked <- [2]int16{req.Key(), req.GetVersion()}
				}
				return nil, nil, false
			})
			c := NewCluster(broker.ListenAddrs(), nil, nil, time.Minute)
			defer c.Close()
			if _, err := c.FetchMetadata(t.Context(), []string{"t"}, false); err != nil {
				t.Fatal(err)
			}
			if _, err := c.ListOffsets(t.Context(), OffsetQuery{0: {{"t", 0}: LatestOffset}}); err != nil {
				t.Fatal(err)
			}
			last := make(map[int16]int16)
			for range len(asked) {
				r := <-asked
				last[r[0]] = r[1]
			}
			if got := [2]int16{last[int16(kmsg.Metadata)], last[int16(kmsg.ListOffsets)]}; got != [2]int16{test.metadata, test.listOffsets} {
				t.Errorf("Metadata and ListOffsets are sent in the versions %v, want %v", got, [2]int16{test.metadata, test.listOffsets})
			}
		})
	}
}

// TestUnsupportedRequestsAreNamed compares what brokers speak with what Herald needs.
func TestUnsupportedRequestsAreNamed(t *testing.T) {
	for name, test := range map[string]struct {
		change  offer
		without kmsg.Key
		want    string
	}{
		"all there":          {want: ""},
		"newer and older":    {change: offer{kmsg.Metadata: {0, 99}, kmsg.ListOffsets: {0, 2}}},
		"not needed to read": {change: offer{kmsg.Produce: {99, 99}}},
		"two too low": {
			change: offer{kmsg.Metadata: {0, 3}, kmsg.ListOffsets: {0, 1}},
			want:   "the broker does not speak the versions of requests that Herald needs: Metadata v0 to v3, Herald speaks v4 to v10; ListOffsets v0 to v1, Herald speaks v2 to v7",
		},
		"too high": {
			change: offer{kmsg.Metadata: {11, 13}},
			want:   "the broker does not speak the versions of requests that Herald needs: Metadata v11 to v13, Herald speaks v4 to v10",
		},
		"missing": {
			without: kmsg.ListOffsets,
			want:    "the broker does not speak the versions of requests that Herald needs: no ListOffsets, Herald speaks v2 to v7",
		},
		"upside down": {
			change: offer{kmsg.Metadata: {9, 5}},
			want:   "the broker does not speak the versions of requests that Herald needs: Metadata v9 to v5, Herald speaks v4 to v10",
		},
	} {
		o := offer(maps.Clone(spoken))
		maps.Copy(o, test.change)
		if test.without != 0 {
			delete(o, test.without)
		}
		err, got := o.check(toRead), ""
		if err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(test.want, got); diff != "" || errors.Is(err, ErrUnsupported) != (test.want != "") {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}
