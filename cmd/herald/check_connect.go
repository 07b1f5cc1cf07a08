package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go/sasl"

	"herald/auth"
	"herald/cmd/herald/listener"
	"herald/cmd/herald/login"
	"herald/cmd/herald/server"
	"herald/consumer"
)

// checkKafka asks the cluster for all that the server will need of it.
func (c *checkCommand) checkKafka(ctx context.Context, f *findings, cfg *server.Config) {
	wrong := errors.Join(checkBrokers(c.Brokers), consumer.CheckRoutes(c.Topic), c.kafkaFlags.check())
	if wrong != nil || c.KafkaTLS && cfg.Consumer.TLS == nil || c.KafkaSASLMechanism != "" && cfg.Consumer.SASL == nil {
		f.note("kafka: not asked, because settings of its connection are wrong")
		return
	}
	if !c.checkLogin(ctx, f, cfg.Consumer.SASL) {
		f.note("kafka: not asked, because Herald cannot log in")
		return
	}
	if len(cfg.Consumer.Brokers) > 1 { // one by one: a broker that answers would hide that another does not
		for _, address := range cfg.Consumer.Brokers {
			one := consumer.NewInspection([]string{address}, cfg.Consumer.TLS, cfg.Consumer.SASL)
			if err := one.Reach(ctx); err != nil {
				f.warn("--brokers: %v", err)
			}
			one.Close()
		}
	}
	cluster := consumer.NewInspection(cfg.Consumer.Brokers, cfg.Consumer.TLS, cfg.Consumer.SASL)
	defer cluster.Close()
	reports, err := cluster.Brokers(ctx)
	if err != nil {
		f.fail("%v", err)
		return
	}
	for _, r := range reports {
		if r.Err != nil {
			f.fail("%v", r.Err)
			continue
		}
		f.ok("broker %d at %s: answers, and knows all requests that Herald sends", r.ID, r.Address)
	}
	c.checkTopics(ctx, f, cluster)
	c.checkRevocationTopic(ctx, f, cluster)
	c.checkGroups(ctx, f, cluster, cfg.Groups())
}

// checkLogin gets what a log-in to a broker needs of others: a token or credentials. It reports whether they are there.
func (c *checkCommand) checkLogin(ctx context.Context, f *findings, mechanism sasl.Mechanism) bool {
	switch m := mechanism.(type) {
	case *login.Bearer:
		expires, err := m.Probe(ctx)
		if err != nil {
			f.fail("%v", err)
			return false
		}
		if c.KafkaOAuthTokenURL != "" { // checkTokenFile has looked at a file
			f.ok("--kafka-oauth-token-url: gives a token, which Herald uses for %v", time.Until(expires).Round(time.Second))
		}
	case *login.IAM:
		source, err := m.Probe(ctx)
		if err != nil {
			f.fail("--kafka-sasl-mechanism=%s: %v", loginIAM, err)
			return false
		}
		f.ok("--kafka-sasl-mechanism=%s: the AWS SDK finds credentials (%s)", loginIAM, source)
	}
	return true
}

// probeUser stands for any user: the rights on the topic of this user are the rights on the topics of all users.
const probeUser = "herald-check"

// checkTopics checks that the topics exist, have leaders and may be read, and written with --enable-publish.
func (c *checkCommand) checkTopics(ctx context.Context, f *findings, cluster *consumer.Inspection) {
	names := make(map[string]string) // by topic: what findings call it
	for _, route := range c.Topic {
		names[route.TopicFor(probeUser)] = "topic " + route.Topic
	}
	reports, err := cluster.Topics(ctx, slices.Collect(maps.Keys(names)))
	if err != nil {
		f.fail("%v", err)
		return
	}
	for _, route := range c.Topic {
		name := route.TopicFor(probeUser)
		perUser := route.Kind == consumer.PerUser
		r := reports[name]
		c.checkTopic(f, names[name], r, perUser)
		if r.Denied || r.Err != nil && !r.Missing {
			continue
		}
		c.checkRight(f, names[name], "Read", r.RightsKnown, r.MayRead, perUser)
		if c.EnablePublish {
			c.checkRight(f, names[name], "Write", r.RightsKnown, r.MayWrite, perUser)
		}
	}
	for _, r := range reports {
		if r.Nameless {
			f.note("the brokers report no topic ids (Kafka before 2.8): do not create a topic again under its name, because clients can miss the new topic's first records without a gap")
			break
		}
	}
}

// checkTopic checks everything of a topic but the rights to read and to write it.
func (c *checkCommand) checkTopic(f *findings, what string, r consumer.TopicReport, perUser bool) {
	switch {
	case r.Denied:
		f.fail("%s: the right (ACL) Describe is missing, which Read and Write include; %s", what, grantAdvice(perUser))
	case r.Missing && perUser:
		f.ok("%s: the topics of users need not exist before their first notification", what)
	case r.Missing:
		f.fail("%s does not exist: create it, or correct --topic; the server starts, and reads it from its start once it exists", what)
	case r.Err != nil:
		f.fail("%v", r.Err)
	case r.Leaderless > 0:
		f.fail("%s: %d of %d partitions have no leader, so they cannot be read: check the brokers", what, r.Leaderless, r.Partitions)
	default:
		f.ok("%s: exists, partitions: %d, and each has a leader", what, r.Partitions)
	}
}

func (c *checkCommand) checkRight(f *findings, what, right string, known, allowed, prefix bool) {
	switch {
	case !known:
		f.note("%s: the broker does not say whether the right (ACL) %s is there", what, right)
	case !allowed:
		f.fail("%s: the right (ACL) %s is missing; %s", what, right, grantAdvice(prefix))
	default:
		f.ok("%s: the right %s is there", what, right)
	}
}

// grantAdvice says on which resource a right on a topic is granted.
func grantAdvice(prefix bool) string {
	if prefix {
		return "grant it on the prefix of the users' topics"
	}
	return "grant it on this topic"
}

// checkRevocationTopic checks the topic of --revocation-topic.
func (c *checkCommand) checkRevocationTopic(ctx context.Context, f *findings, cluster *consumer.Inspection) {
	if c.RevocationTopic == "" {
		return
	}
	reports, err := cluster.Topics(ctx, []string{c.RevocationTopic})
	if err != nil {
		f.fail("%v", err)
		return
	}
	what, r := "revocation topic "+c.RevocationTopic, reports[c.RevocationTopic]
	if r.Missing {
		f.fail("%s does not exist: create it with cleanup.policy=compact; until then, no token is accepted", what)
		return
	}
	c.checkTopic(f, what, r, false)
	if r.Err != nil {
		return
	}
	c.checkRight(f, what, "Read", r.RightsKnown, r.MayRead, false)
	switch known, err := cluster.CheckCompacted(ctx, c.RevocationTopic); {
	case err != nil:
		f.warn("revocations will be lost: %v", err)
	case !known:
		f.note("%s: whether it is compacted is not known, because the right (ACL) DescribeConfigs is missing", what)
	default:
		f.ok("%s: is compacted", what)
	}
}

// checkGroups checks the rights on the consumer groups of the server. Only processes with the server's --replica join
// the first one.
func (c *checkCommand) checkGroups(ctx context.Context, f *findings, cluster *consumer.Inspection, names []string) {
	for i, name := range names {
		r := cluster.Group(ctx, name)
		switch {
		case r.Err != nil:
			f.fail("group %s: %v", name, r.Err)
		case !r.MayRead:
			f.fail("group %s: the right (ACL) Read is missing, so no offset is committed; grant it on this group or on the prefix %s.", name, c.Group)
		case i == 0 && r.Members > 0:
			f.note("group %s: the right Read is there, and a process is in the group: if it is not this replica, give each process its own --replica", name)
		default:
			f.ok("group %s: the right Read is there", name)
		}
	}
}

// checkKeySet fetches the key set and compares its server's clock with the clock of this machine.
func (c *checkCommand) checkKeySet(ctx context.Context, f *findings, keys auth.Keys) {
	set, ok := keys.(*auth.JWKS)
	if !ok {
		return
	}
	f.muted = true // the error says what the log says
	date, err := set.Probe(ctx)
	f.muted = false
	if err != nil {
		f.fail("--jwks-url %s: %v", c.JWKSURL, err)
		return
	}
	f.ok("--jwks-url: the key set has keys for tokens")
	skew := time.Until(date).Round(time.Second)
	switch {
	case date.IsZero():
		f.note("clock: not compared, because the key set's server does not say its time")
	case skew.Abs() > auth.DefaultLeeway:
		f.warn("clock: this machine's clock differs by %v from the clock of the key set's server, so tokens count as expired or as not valid yet: set the clocks by NTP", skew.Abs())
	default:
		f.ok("clock: differs by %v from the clock of the key set's server", skew.Abs())
	}
}

// checkSchemaRegistry asks the schema registry for the types of schemas that it knows: every registry answers, shortly, and
// needs no right to a subject for it. The command does not ask if the flags are wrong, because the request might have
// credentials that everybody on the way can read.
func (c *checkCommand) checkSchemaRegistry(ctx context.Context, f *findings, cfg *server.Config) {
	switch {
	case cfg.Schemas == nil:
		return
	case c.schemaFlags.check(c.Topic) != nil:
		f.note("schema registry: not asked, because its settings are wrong")
		return
	}
	body, err := cfg.Schemas.Get(ctx, "/schemas/types")
	var types []string
	if err == nil && json.Unmarshal(body, &types) != nil {
		err = errors.New("the answer is not of a schema registry: look at the URL, also at its path")
	}
	if err != nil {
		f.fail("--schema-registry-url: %v", err)
		return
	}
	f.ok("--schema-registry-url: the schema registry answers")
}

// checkListeners listens on both addresses for a moment. Only systemd has the sockets that it passes.
func checkListeners(ctx context.Context, f *findings, cfg *server.Config) {
	for _, l := range []struct{ flag, address string }{{"--listen", cfg.Listen}, {"--admin-listen", cfg.AdminListen}} {
		if l.address == listener.Systemd {
			f.note("%s %s: not tried, because only systemd has the socket", l.flag, l.address)
			continue
		}
		open, err := listener.Listen(ctx, l.address)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			f.note("%s %v; perhaps Herald runs already", l.flag, err)
		case listener.CheckAddress(l.address, "") != nil: // checkSettings has found it
		case err != nil:
			f.refuse(fmt.Errorf("%s %w", l.flag, err))
		default:
			defer open.Close() //nolint:errcheck // nothing was accepted
			f.ok("%s %s: can be listened on", l.flag, l.address)
		}
	}
}
