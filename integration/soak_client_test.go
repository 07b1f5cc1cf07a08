package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// soakClient is one client. The proxies cut its connections; it stays offline for a while and reconnects to either
// replica.
type soakClient struct {
	*eventSource
	user  string
	got   map[string][]soakEvent // by lane
	ended map[string]bool        // lanes whose last value has come
	other []event                // gaps that belong to no lane

	mu    sync.Mutex
	known map[string]bool // lanes that its ids name
}

// soakEvent is a value or a gap.
type soakEvent struct {
	value string
	large bool
	gap   *lossGap
	start int64 // upper limit of the start of the log at the time of the gap
}

// newClient returns a client that has had its first checkpoint.
func (s *soak) newClient(user string) *soakClient {
	c := &soakClient{
		eventSource: newStream(s.t, s.replicas[0].public, user), user: user,
		got: make(map[string][]soakEvent), ended: make(map[string]bool),
		known: map[string]bool{s.homeOf(user, homesAtFirst).name: true}, // the id of the first checkpoint names it
	}
	c.Connect()
	c.Checkpoint()
	return c
}

// read reads until all lanes have ended. The time that this takes depends on how many records were written, so read
// returns an error only if no record comes for twice patience.
func (s *soak) read(c *soakClient) error {
	c.Cut()            // the client needs only the id of the checkpoint
	var came time.Time // the last record or gap
	for {
		if err := s.comeBack(c); err != nil {
			return err
		}
		for {
			e, err := c.read()
			if err != nil || e.Type == "end" {
				break
			}
			s.take(c, e)
			if e.Type != "checkpoint" {
				came = time.Now()
			}
			if len(c.ended) > 0 && len(c.ended) == len(s.lanesOf(c.user)) {
				return nil
			}
		}
		select {
		case <-s.stop:
			if came.IsZero() {
				came = time.Now()
			}
			if time.Since(came) > 2*patience {
				var left []string
				for _, l := range s.lanesOf(c.user) {
					if !c.ended[l.name] {
						left = append(left, l.name)
					}
				}
				return fmt.Errorf("no record has come for %v, and %v have not ended; the last id is %s", 2*patience, left, c.LastID)
			}
		default:
			if rand.IntN(20) == 0 {
				time.Sleep(rand.N(5 * time.Second)) // away
			}
		}
	}
}

// comeBack connects to either replica. The connection may be cut in the head of the response.
func (s *soak) comeBack(c *soakClient) error {
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(rand.N(200 * time.Millisecond)) {
		c.url = "http://" + s.proxies[rand.IntN(len(s.proxies))] + "/events?user=" + c.user
		err := c.connect()
		if err == nil || time.Now().After(deadline) { // else the replica is down
			return err
		}
	}
}

// take records an event.
func (s *soak) take(c *soakClient, e event) {
	switch e.Type {
	case "message":
		name, text, _ := strings.Cut(e.Data, " ")
		value, _, _ := strings.Cut(text, " ")
		c.got[name] = append(c.got[name], soakEvent{value: value, large: len(text) > len(padding)/2})
		if value == last {
			c.ended[name] = true
		}
		c.mu.Lock()
		c.known[name] = true
		c.mu.Unlock()
	case "gap":
		var gap lossGap
		if json.Unmarshal([]byte(e.Data), &gap) == nil && gap.Reason == "retention" {
			if l := s.laneOf(gap.Source, gap.Partition); l != nil && s.fleeting[l] != nil {
				c.got[l.name] = append(c.got[l.name], soakEvent{gap: &gap, start: s.fleeting[l].start()})
				return
			}
		}
		c.other = append(c.other, e)
	}
}

// knows reports whether the client's ids name the lane.
func (c *soakClient) knows(l *lane) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[l.name]
}
