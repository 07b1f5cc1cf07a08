package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"herald/consumer"
	"herald/stream"
)

type idCommand struct {
	ID    string           `arg:"" name:"id" help:"The event id."`
	Topic []consumer.Route `sep:";" placeholder:"NAME[,KEY=VALUE…]" help:"A topic that the id may contain, such as notifications.alice or, with --user, notifications.{user}; with options, as --topic of serve has them. Repeat the flag, or separate several topics by semicolons. An id contains only hashes of names. Default: the topics of herald dev." env:"-"`
	User  string           `placeholder:"NAME" help:"User whose name stands for {user} in the names of topics. Default: none; the id's topics with a user in their name are then shown by their hash." env:"-"`
}

// Help implements kong.HelpProvider.
func (*idCommand) Help() string {
	return `Example:

    herald id --topic notifications '1~her949gt2mqv.2-41'
    herald id --user alice '1~jh7b196t3g0c'

An id holds a position for each topic of a stream: for each partition, the offset of the last record that the stream has considered. A stream that resumes from the id continues after these offsets. It reads a partition that is not in the id from the partition's start. If the --topic of a topic has a partitioner, the id holds only the partitions that can contain the user's records, and the stream reads only these. If a topic is not in the id, the stream begins with the topic's next records and sends a gap event.

    1~her949gt2mqv.2-41.5     version 1; topic her949 (a hash of its name) in the incarnation gt2mqv (a hash
                              of its topic id); partition 2 up to offset 41; partition 5 from its start
    1t946684800000~her949gt2mqv.2-41t
                              partition 2 up to offset 41, or from the first record of the time
                              946684800000 (ms since 1970) or later, if that record is earlier: the stream
                              began with the parameter since, and Kafka had not yet returned that record's
                              offset`
}

// Validate implements kong.Validatable. Its form with a context has no name in kong.
func (*idCommand) Validate(ctx *kong.Context) error {
	var m missing
	m.add(hasArgument(ctx), "ID (an event id, such as herald tail --ids prints)")
	return m.err()
}

// Run implements the command.
func (i *idCommand) Run() error { return i.explain(os.Stdout, os.Stderr) }

// topics returns the names that the id is searched for.
func (i *idCommand) topics() []string {
	routes := i.Topic
	if len(routes) == 0 {
		routes = devRoutes
	}
	var names []string
	for _, r := range routes {
		if i.User != "" {
			r.Topic = r.TopicFor(i.User)
		}
		names = append(names, r.Topic)
	}
	return names
}

// explain writes what the id says. notes gets a line if the names of topics are not known.
func (i *idCommand) explain(w, notes io.Writer) error {
	sources, err := stream.ExplainID(i.ID, i.topics()...)
	if err != nil {
		return err
	}
	unnamed := false
	for _, s := range sources {
		name := s.Topic
		if name == "" {
			unnamed = true
			name = "topic with hash " + s.Tag
		}
		state := "incarnation " + s.Incarnation
		if !s.Exists {
			state = "did not exist"
		}
		if _, err := fmt.Fprintf(w, "%s (%s)\n", name, state); err != nil {
			return err
		}
		for _, p := range slices.Sorted(maps.Keys(s.Last)) {
			where := fmt.Sprintf("up to offset %d", s.Last[p])
			if s.Last[p] < 0 {
				where = "from its start"
			}
			if since, sought := s.Since[p]; sought {
				where += ", or from the first record"
				if !since.IsZero() {
					where += " of " + since.UTC().Format(time.RFC3339Nano) + " or later"
				}
				where += ", whose offset Kafka had not returned yet"
			}
			if _, err := fmt.Fprintf(w, "  partition %d %s\n", p, where); err != nil {
				return err
			}
		}
	}
	if unnamed {
		_, err = fmt.Fprintln(notes, "herald id: an id holds a hash of each topic's name; to see a name, give the topics that it may be with --topic NAME, and the user with --user NAME for topics such as notifications.{user}")
	}
	return err
}
