package stream

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"
)

// This part of the model has the clients: their connections, and what they do.

// simClient is a client with all of its connections, one after the other.
type simClient struct {
	user     string
	shape    shape
	claims   map[string][]string // the values that the viewer of the present stream has
	teams    []string            // the teams that the viewers of all streams so far had
	unseen   bool                // the client begins with since=delivered
	polls    bool                // the client polls: its streams end by themselves
	since    int                 // the client's since parameter: it asks for records appended at this time or later; 0: it has none
	replica  *replica
	stream   *clientStream
	ready    bool // the stream asked to be served
	body     *cutBody
	lastID   string
	opened   bool // the client has received a checkpoint; from then on no record may be missing
	openedAt int
	events   []event
	promised map[place]int    // for each home partition, when the client's ids first named it
	from     map[place]int64  // the first offset that the client's since parameter asks for
	read     map[place]int64  // how far the replica had read when the client's stream began
	reach    map[string]int64 // the largest end that a gap may have, by the gap's id and data
	wire     []byte           // all bytes that the client received

	currentAt int // when the stream last asked whether its replica is current
}

// cutBody is the response to a client that accepts writes in parts, and whose connection breaks at some
// byte.
type cutBody struct {
	world  *world
	client *simClient
	text   []byte
	limit  int // the number of bytes that arrive before the connection breaks; -1: it does not break
	ended  bool
	clean  bool // the response has ended with its last chunk

	lives []liveClaim
	noted int    // the number of bytes of text that note has parsed
	id    string // the last id in those bytes
}

var errBroken = errors.New("broken")

func (c *cutBody) send(b []byte) ([]byte, error) {
	b = b[headroom:]
	n := len(b)
	if c.world.random.IntN(3) == 0 {
		n = c.world.random.IntN(n + 1)
	}
	if err := c.finish(b[:n]); err != nil {
		return nil, err
	}
	if c.world.planted == "rest of a write forgotten" {
		return nil, nil
	}
	return b[n:], nil
}

func (c *cutBody) sendLarge(l *large) ([]byte, error) {
	if c.world.planted == "large event forgotten" {
		return nil, nil
	}
	return c.send(append(make([]byte, headroom), l.text...))
}

func (c *cutBody) finish(b []byte) error {
	c.world.interlude()
	if c.limit >= 0 && len(c.text)+len(b) > c.limit {
		c.text = append(c.text, b[:c.limit-len(c.text)]...)
		c.note()
		return errBroken
	}
	c.text = append(c.text, b...)
	c.note()
	return nil
}

func (c *cutBody) leave() {}

func (c *cutBody) cut() {}

func (c *cutBody) close(clean bool) bool {
	c.ended, c.clean = true, clean
	return clean
}

// connect opens a stream for the client at a random replica.
func (w *world) connect(c *simClient) {
	c.replica = w.replicas[w.random.IntN(len(w.replicas))]
	c.body = &cutBody{world: w, client: c, limit: -1}
	if !w.calm && w.random.IntN(2) == 0 {
		c.body.limit = w.random.IntN(2000)
	}
	turn := uint32(w.random.IntN(10))
	c.stream = newClientStream(c.replica.service, c.body, c.user, 64+w.random.IntN(400))
	c.stream.setShape(c.shape)
	w.chooseClaims(c)
	c.stream.catchUp.turn, c.stream.sub.serve = turn, func(*clientStream) { c.ready = true }
	if c.polls {
		limit := w.random.IntN(5)
		if w.calm {
			limit = 0
		}
		c.stream.writer.poll = newPoll(streamRequest{wait: time.Duration(w.random.IntN(2)) * time.Minute, limit: limit})
	}
	if w.planted == "overflow not noticed" {
		c.replica.service.streams.overflow = func(s *subscription) { s.behind = false }
	}
	known, from := c.replica.homesOf(c.user), w.deliveredOf(c.user)
	w.serving = c
	c.stream.start(w.request(c))
	told := parse(c.body.text).events
	for _, e := range told {
		w.promises(c, e.id)
	}
	if !c.opened && len(told) > 0 {
		c.opened, c.openedAt = true, w.now
		if c.unseen {
			c.from = from
		}
		for at := range known {
			c.promise(at, w.now)
		}
	}
	w.collect(c)
}

// serve runs the client's stream if it asked to be served.
func (w *world) serve(c *simClient) {
	if c.ready {
		c.ready = false
		w.serving = c
		c.stream.serveQuick()
	}
}

// collect gives the client the complete events of a connection that has ended.
func (w *world) collect(c *simClient) {
	if !c.body.ended {
		return
	}
	got := parse(c.body.text)
	c.wire = append(c.wire, c.body.text...)
	if c.polls {
		w.checkAnswer(c, got.events)
	}
	if os.Getenv("HERALD_SIMULATION_SEED") != "" {
		w.t.Logf("%p %s asked with %q and got\n%s", c, c.user, c.lastID, c.body.text)
	}
	for i := range got.events {
		got.events[i] = w.unwrap(c, got.events[i], got.fields[i])
		w.checkOwner(c, got.events[i])
	}
	w.verifyLive(c, got.events)
	if n := len(got.events); n > 0 {
		c.events = append(c.events, got.events...)
		c.lastID = got.events[n-1].id
		for _, e := range got.events {
			w.promises(c, e.id)
		}
		if w.planted == "what is sought is not in ids" {
			c.lastID = regexp.MustCompile(`^(1)t\d+|(\.\d+(?:-\d+)?)t`).ReplaceAllString(c.lastID, "$1$2")
		}
		if w.planted == "homes at their start are not in ids" {
			c.lastID = regexp.MustCompile(`(\.\d+)+(~|$)`).ReplaceAllString(c.lastID, "$2")
		}
	}
	c.stream, c.ready = nil, false
}

// checkAnswer checks that a poll that was not cut ends with a checkpoint, and has no more records than were asked for.
func (w *world) checkAnswer(c *simClient, got []event) {
	if !c.body.clean {
		return
	}
	records := 0
	for _, e := range got {
		if e.kind == TypeMessage {
			records++
		}
	}
	if limit := c.stream.writer.poll.limit; len(got) == 0 || got[len(got)-1].kind != TypeCheckpoint || limit > 0 && records > limit {
		w.wrong = append(w.wrong, fmt.Sprintf("a poll for %d records was answered with %v", limit, got))
	}
}

// disconnect ends the client's connection.
func (w *world) disconnect(c *simClient) {
	c.stream.sub.end(errGone)
	w.serve(c)
	w.collect(c)
}

// step lets one client do one thing.
func (w *world) step(c *simClient) {
	if c.stream == nil {
		w.connect(c)
		return
	}
	switch w.random.IntN(10) {
	case 0:
		if !w.calm {
			w.disconnect(c)
			return
		}
	case 1:
		if w.planted == "checkpoint ahead of the queue" {
			c.stream.advance(*c.replica.hub.positions(c.stream.sub.topics))
		}
		if w.random.IntN(2) == 0 {
			c.stream.writer.moved += checkpointAfter // the position now seems to have moved far
		}
		c.stream.sub.requestHeartbeat()
	case 2:
		if p := c.stream.writer.poll; p != nil { // its timer fires
			p.waitEnd, p.giveUp = time.Now(), time.Now()
			c.stream.sub.requestHeartbeat()
		}
	default:
		if len(c.stream.catchUp.waiting) > 0 && w.random.IntN(2) == 0 {
			c.stream.sub.requestCatchUp() // the retry timer fires
		} else if !c.stream.catchUp.metLive && w.random.IntN(2) == 0 {
			c.stream.sub.requestLiveCheck() // the same timer
		}
	}
	w.serve(c)
	w.collect(c)
}
