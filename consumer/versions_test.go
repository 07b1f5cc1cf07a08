package consumer

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TestVersionsMayChange changes the versions of requests that a broker speaks while its records are delivered, as an
// upgrade and a roll-back do. Nothing is lost, repeated or taken for another topic. Afterwards the topic is created
// again, which is found.
func TestVersionsMayChange(t *testing.T) {
	t.Parallel()
	old, middle, recent := kversion.V2_1_0(), kversion.V3_0_0(), kversion.V3_9_0()
	for name, steps := range map[string][]*kversion.Versions{
		"upgrade":             {old, middle, recent},
		"roll-back":           {recent, middle, old},
		"upgrade and back":    {old, recent, old},
		"roll-back and again": {recent, old, recent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t, kfake.MaxVersions(nil), kfake.SeedTopics(1, "t", "other"))
			change := changeable(b)
			change(steps[0])
			c, sink, _ := startAt(t, b, "t", "other")
			ready(t, c)
			id := topicID(t, c, "t")
			var want []string
			for i, versions := range steps {
				change(versions)
				producer := NewProducer(b.ListenAddrs(), nil, nil)
				t.Cleanup(producer.Close)
				want = append(want, sequence(t, producer, "t", "alice", fmt.Sprint("step ", i, " "), 5)...)
				sink.wantLines(t, want)
				for range 3 { // two answers teach an id
					c.topics.doubt("t")
					time.Sleep(turnInterval)
				}
			}
			if len(sink.gaps) > 0 || topicID(t, c, "t") != id {
				t.Fatalf("gaps %+v, want none", sink.gaps)
			}
			recreate(t, b, "t", 1)
			producer := NewProducer(b.ListenAddrs(), nil, nil)
			t.Cleanup(producer.Close)
			want = append(want, sequence(t, producer, "t", "alice", "the new topic", 30)...)
			sink.wantRecreated(t, want)
			wantOldIDRefused(t, c, id)
		})
	}
}

// changeable returns a function that changes the versions of requests that a broker speaks. It drops all connections.
func changeable(b *kfake.Cluster) func(*kversion.Versions) {
	type change struct {
		versions *kversion.Versions
		at       time.Time
	}
	var last atomic.Pointer[change]
	last.Store(&change{kversion.Tip(), time.Time{}})
	b.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		now := last.Load()
		if asks, ok := req.(*kmsg.ApiVersionsRequest); ok {
			return apiVersions(asks, now.versions), nil, true
		}
		if highest, _ := now.versions.LookupMaxKeyVersion(req.Key()); req.GetVersion() > highest || time.Since(now.at) < 300*time.Millisecond {
			return nil, context.Canceled, true // closes the connection
		}
		return nil, nil, false
	})
	return func(versions *kversion.Versions) {
		last.Store(&change{versions, time.Now()})
		time.Sleep(400 * time.Millisecond)
	}
}

func apiVersions(req *kmsg.ApiVersionsRequest, v *kversion.Versions) *kmsg.ApiVersionsResponse {
	res := req.ResponseKind().(*kmsg.ApiVersionsResponse)
	v.EachMaxKeyVersion(func(key, highest int16) {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = key, highest
		res.ApiKeys = append(res.ApiKeys, k)
	})
	return res
}
