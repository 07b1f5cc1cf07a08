package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// soakClient is one client. It is cut at random bytes, reads by fits and starts, is away for a while
// and comes back to either replica.
type soakClient struct {
	*eventSource
	user  string
	got   map[string][]soakEvent // by lane
	ended map[string]bool        // lanes whose last value has come
	other []event                // gaps of no lane
}

// soakEvent is a value or a gap.
type soakEvent struct {
	value string
	gap   *lossGap
}

// newClient returns a client that has had its first checkpoint.
func (s *soak) newClient(user string) *soakClient {
	c := &soakClient{eventSource: newStream(s.t, s.replicas[0].public, user), user: user, got: make(map[string][]soakEvent), ended: make(map[string]bool)}
	c.dialer.Control = narrow // so that herald sees when the client does not read
	c.Connect()
	c.Checkpoint()
	return c
}

// read reads until all lanes have ended.
func (s *soak) read(c *soakClient) error {
	c.Cut() // the checkpoint is all that it needs
	var deadline time.Time
	for {
		if err := s.comeBack(c); err != nil {
			return err
		}
		for {
			e, err := c.read()
			if err != nil || e.Type == "end" {
				break
			}
			c.take(e, s.laneOf)
			if len(c.ended) > 0 && len(c.ended) == len(s.lanesOf(c.user)) {
				return nil
			}
			if rand.IntN(1000) == 0 {
				s.stalls.Add(1)
				time.Sleep(rand.N(4 * time.Second))
			}
		}
		s.cuts.Add(1)
		select {
		case <-s.stop:
			if deadline.IsZero() {
				deadline = time.Now().Add(4 * patience)
			}
			if time.Now().After(deadline) {
				var left []string
				for _, l := range s.lanesOf(c.user) {
					if !c.ended[l.name] {
						left = append(left, l.name)
					}
				}
				return fmt.Errorf("it has not come to the end of %v; its last id is %s", left, c.LastID)
			}
		default:
			if rand.IntN(20) == 0 {
				time.Sleep(rand.N(5 * time.Second)) // away
			}
		}
	}
}

// comeBack connects to either replica.
func (s *soak) comeBack(c *soakClient) error {
	c.limit = 200 + rand.Int64N(100_000)
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(rand.N(200 * time.Millisecond)) {
		c.url = "http://" + s.replicas[rand.IntN(len(s.replicas))].public + "/events?user=" + c.user
		err := c.connect()
		if err == nil || time.Now().After(deadline) { // else the replica is down
			return err
		}
	}
}

// take notes an event.
func (c *soakClient) take(e event, laneOf func(topic string, partition int32) string) {
	switch e.Type {
	case "message":
		name, text, _ := strings.Cut(e.Data, " ")
		value, _, _ := strings.Cut(text, " ")
		c.got[name] = append(c.got[name], soakEvent{value: value})
		if value == last {
			c.ended[name] = true
		}
	case "gap":
		var gap lossGap
		name := ""
		if json.Unmarshal([]byte(e.Data), &gap) == nil && gap.Reason == "retention" {
			name = laneOf(gap.Source, gap.Partition)
		}
		if name == "" {
			c.other = append(c.other, e)
			return
		}
		c.got[name] = append(c.got[name], soakEvent{gap: &gap})
	}
}
