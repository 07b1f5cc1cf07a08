package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/twmb/franz-go/pkg/kerr"

	"herald/auth"
	"herald/auth/textfile"
	"herald/consumer"
	"herald/stream"
)

// produceCommand has no environment variables for the notification: HERALD_TOPIC is a setting of serve
// and HERALD_USER a setting of tail.
type produceCommand struct {
	Brokers  []string        `default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Kafka brokers to connect to first. Default: ${default}."`
	Topic    *consumer.Route `env:"-" placeholder:"NAME[,KEY=VALUE…]" help:"Topic to write to, in the form of serve's --topic. Default: notifications, or announcements,kind=broadcast with --everyone."`
	User     *string         `env:"-" placeholder:"NAME" help:"User who gets the notification. Give one of --user, --claim and --everyone."`
	Claim    []string        `env:"-" placeholder:"NAME=VALUE" help:"Claim and value, such as team=red: everyone whose token has the value gets the notification. A record has one. It needs a --topic with claim=NAME."`
	Everyone bool            `env:"-" help:"Write the notification to a topic for everyone. Give one of --user, --claim and --everyone; a --topic with kind=broadcast needs none of them."`
	Type     string          `env:"-" placeholder:"TYPE" help:"Type of the event. Default: none; the event then has the type message."`
	Value    string          `arg:"" verbatim:"" help:"Value of the record. With -, the value is read from standard input: all of it is one record, without a line break at its end."`

	EventTypeHeader string `default:"event-type" placeholder:"NAME" help:"Record header that holds the event type. It must be the server's --event-type-header. Default: ${default}."`

	kafkaFlags
}

// Help implements kong.HelpProvider.
func (*produceCommand) Help() string {
	return `Example:

    herald produce --user alice '{"text":"hello"}'
    herald produce --everyone '{"text":"maintenance at noon"}'
    herald produce --topic 'notifications.{user}' --user alice --type greeting hello
    herald produce --topic team-news,claim=team --claim team=red 'a new member'
    jq -c .order < order.json | herald produce --user alice -

With - as its value, the command reads standard input to its end, up to 64 MiB, and writes one record. A line break at the end is not a part of the value, as with kafka-console-producer and kcat.

If the topic does not exist, a cluster with auto.create.topics.enable creates it. Standard error then says so, because the name may be misspelt.`
}

// Validate implements kong.Validatable. Its form with a context has no name in kong.
func (p *produceCommand) Validate(ctx *kong.Context) error {
	var m missing
	m.add(p.User != nil || p.Claim != nil || p.Everyone || p.Topic != nil, "one of --user (who gets the notification, such as --user alice), --claim and --everyone")
	m.add(hasArgument(ctx), `VALUE (of the record, such as '{"text":"hello"}'; - reads it from standard input)`)
	if err := m.err(); err != nil {
		return err
	}
	if err := p.checkRecipient(); err != nil {
		return err
	}
	if p.Type != "" {
		if err := stream.CheckType(p.Type); err != nil {
			return fmt.Errorf("--type %q: %w", p.Type, err)
		}
	}
	if err := p.checkRoute(); err != nil {
		return err
	}
	if err := checkBrokers(p.Brokers); err != nil {
		return err
	}
	return p.check()
}

// checkRecipient returns an error unless the flags name at most one recipient, which can exist.
func (p *produceCommand) checkRecipient() error {
	switch {
	case p.User != nil && p.Everyone:
		return errors.New("--user and --everyone exclude each other")
	case p.Claim != nil && p.Everyone:
		return errors.New("--claim and --everyone exclude each other")
	case p.Claim != nil && p.User != nil:
		return errors.New("--claim and --user exclude each other")
	case len(p.Claim) > 1:
		return errors.New("--claim has several values, which a comma or a second flag separates, and a record has one: write a record for each")
	case p.Claim != nil:
		if _, _, err := auth.ParseClaim(p.Claim[0]); err != nil {
			return fmt.Errorf("--claim %w", err)
		}
	case p.User == nil:
	case *p.User == "":
		return errors.New("--user is empty: name a user, or give --everyone instead")
	default:
		if err := auth.CheckUser(*p.User); err != nil {
			return fmt.Errorf("--user: %w", err)
		}
	}
	return nil
}

// checkClaim returns an error unless the topic is for values of the claim that the notification is for, if it is for a
// claim.
func (p *produceCommand) checkClaim(route consumer.Route) error {
	name, _, _ := strings.Cut(strings.Join(p.Claim, ""), "=")
	switch {
	case route.Claim == name:
		return nil
	case p.Topic == nil:
		return fmt.Errorf("--claim needs a topic for this claim: add --topic such as --topic team-news,claim=%s", name)
	case p.Claim == nil:
		return fmt.Errorf("topic %s is for values of the claim %s: give --claim %[2]s=VALUE instead", route.Topic, route.Claim)
	case route.Claim == "":
		return fmt.Errorf("topic %s is not for values of a claim: add claim=%s to --topic, as in the server's route", route.Topic, name)
	}
	return fmt.Errorf("topic %s is for values of the claim %s, not of %s", route.Topic, route.Claim, name)
}

// checkRoute returns an error if the topic cannot hold a notification for the user, or for everyone.
func (p *produceCommand) checkRoute() error {
	route := p.route()
	if err := p.checkClaim(route); err != nil {
		return err
	}
	forAll := fmt.Sprintf("--topic %s,kind=broadcast", route.Topic)
	advice := "add --user NAME, or give " + forAll + " if the topic is for everyone"
	if p.Everyone {
		advice = "give --user NAME instead of --everyone, or " + forAll + " if the topic is for everyone"
	}
	switch {
	case route.FramesValues():
		return fmt.Errorf("topic %s has format=%s, and herald produce writes no values with the id of a schema: write to it with a serializer of the schema registry", route.Topic, route.Format)
	case route.UserPointer != "" && p.Claim != nil:
		return fmt.Errorf("topic %s has the value of the claim in the record's value: write to it as its other producers do", route.Topic)
	case p.Claim == nil && p.User == nil && route.Kind == consumer.Shared && route.UserHeader != "":
		return fmt.Errorf("topic %s has the user in the record header %s: %s", route.Topic, route.UserHeader, advice)
	case p.Claim != nil:
		return nil
	case route.UserPointer != "":
		return fmt.Errorf("topic %s has the user in the value: write to it as its other producers do, or give %s without --user to write the value unchanged", route.Topic, forAll)
	case p.User == nil && route.Kind == consumer.Shared:
		return fmt.Errorf("topic %s is keyed by user: %s", route.Topic, advice)
	case p.User == nil && route.Kind == consumer.PerUser:
		return fmt.Errorf("topic %s has the user in its name: give --user NAME", route.Topic)
	case p.User != nil && route.Kind == consumer.Broadcast:
		return fmt.Errorf("topic %s is for everyone: give --everyone instead of --user", route.Topic)
	case p.User != nil && route.Kind == consumer.PerUser:
		own := consumer.Route{Topic: route.TopicFor(*p.User)}
		if err := consumer.CheckRoutes([]consumer.Route{own}); err != nil {
			return fmt.Errorf("--user %q: %w; with encode=base64url in --topic and in the server's route, users have any name", *p.User, err)
		}
	}
	return nil
}

// route returns the route of the notification.
func (p *produceCommand) route() consumer.Route {
	switch {
	case p.Topic != nil:
		return *p.Topic
	case p.User == nil:
		return consumer.Route{Topic: "announcements", Kind: consumer.Broadcast}
	default:
		return consumer.Route{Topic: "notifications"}
	}
}

// Run implements the command.
func (p *produceCommand) Run(ctx context.Context) error {
	kafka, err := p.connection(ctx)
	if err != nil {
		return err
	}
	producer := consumer.NewProducer(p.Brokers, kafka.tls, kafka.sasl)
	defer producer.Close()
	user := ""
	if p.User != nil {
		user = *p.User
	}
	var headers []consumer.Header
	if p.Type != "" {
		headers = append(headers, consumer.Header{Key: p.EventTypeHeader, Value: []byte(p.Type)})
	}
	route := []consumer.Route{p.route()}
	m, ok := consumer.MessageFor(route, user, headers...)
	if claim, value, isClaim := strings.Cut(strings.Join(p.Claim, ""), "="); isClaim {
		m, ok = consumer.MessageForClaim(route, claim, value, headers...)
	}
	if !ok {
		return fmt.Errorf("the topic takes no such notification: --type %q contradicts where=%s", p.Type, p.route().Where)
	}
	if m.Value, err = p.value(ctx, os.Stdin, os.Stderr); err != nil {
		return err
	}
	written, err := producer.Produce(ctx, m)
	if err != nil {
		return p.explain(m.Value, err)
	}
	if written.Created {
		_, _ = fmt.Fprintf(os.Stderr, "herald produce: topic %s did not exist: it was created, partitions: %d\n", written.Topic, written.Partitions)
	}
	fmt.Printf("topic=%s partition=%d offset=%d\n", written.Topic, written.ID, written.Offset)
	return nil
}

// stdinValue is the argument that stands for standard input.
const stdinValue = "-"

// maxValue bounds a value that is read from standard input, in bytes. It is the upper bound of serve's
// --publish-max-bytes.
const maxValue = 64 << 20

// value returns the value of the record: the argument, or what stdin has until its end.
func (p *produceCommand) value(ctx context.Context, stdin *os.File, notes io.Writer) ([]byte, error) {
	if p.Value != stdinValue {
		return []byte(p.Value), nil
	}
	if info, err := stdin.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		_, _ = fmt.Fprintln(notes, "herald produce: reading the value from standard input; Ctrl-D at the start of a line ends it")
	}
	type result struct {
		text []byte
		err  error
	}
	read := make(chan result, 1)
	go func() { // may outlive this function, until the process ends: nothing ends the read of a terminal
		text, err := io.ReadAll(io.LimitReader(stdin, maxValue+1))
		read <- result{text, err}
	}()
	var r result
	select {
	case <-ctx.Done():
		return nil, errors.New("interrupted: nothing was written")
	case r = <-read:
	}
	text := textfile.TrimLineBreak(r.text)
	switch {
	case r.err != nil:
		return nil, fmt.Errorf("standard input: %w", r.err)
	case len(r.text) > maxValue:
		return nil, fmt.Errorf("standard input: a value has at most %d bytes", maxValue)
	case len(text) == 0:
		return nil, errors.New("standard input is empty: nothing was written; for an empty value, give '' instead of -")
	}
	return text, nil
}

// explain says what to do about the most frequent errors.
func (p *produceCommand) explain(value []byte, err error) error {
	if errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) {
		return fmt.Errorf("the value has %d bytes, and the topic takes no record of this size: shorten it, or raise max.message.bytes of the topic (%w)", len(value), err)
	}
	if errors.Is(err, consumer.ErrNoTopic) {
		return fmt.Errorf("%w, and the cluster does not create it: correct --topic, or create the topic", err)
	}
	return err
}
