package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"herald/stream"
)

type idCommand struct {
	ID    string   `arg:"" name:"id" help:"The event id."`
	Topic []string `placeholder:"NAME" help:"Names of topics to look for in it, such as notifications.alice; an id has hashes of them. Default: those of herald dev." env:"-"`
}

// Help implements kong.HelpProvider.
func (*idCommand) Help() string {
	return `Example:

    herald id --topic notifications '1~her949gt2mqv.2-41'

An id says for each topic of a stream, and for each of its partitions that were read, the offset of the last record considered. A stream that resumes from it goes on behind those, and reads a partition that the id does not name from its start. Of a topic whose --topic has a partitioner the id names only the partitions that can hold the user's records, and the stream reads only those. In a topic that the id does not name the stream starts now, and a gap tells that.

    1~her949gt2mqv.2-41.5     version 1; topic her949 (a hash of its name) in its incarnation gt2mqv (a hash
                              of its topic id); partition 2 up to offset 41; partition 5 from its start
    1t946684800000~her949gt2mqv.2-41t
                              partition 2 up to offset 41, or from the first record of that many milliseconds
                              after 1970 or later if that is before: the stream began by the parameter since,
                              and Kafka has not told yet where that is`
}

// Run implements the command.
func (i *idCommand) Run() error { return i.explain(os.Stdout) }

func (i *idCommand) explain(w io.Writer) error {
	topics := i.Topic
	if len(topics) == 0 {
		for _, r := range devRoutes {
			topics = append(topics, r.Topic)
		}
	}
	sources, err := stream.ExplainID(i.ID, topics...)
	if err != nil {
		return err
	}
	for _, s := range sources {
		name := s.Topic
		if name == "" {
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
				where += ", which Kafka has not told yet"
			}
			if _, err := fmt.Fprintf(w, "  partition %d %s\n", p, where); err != nil {
				return err
			}
		}
	}
	return nil
}
