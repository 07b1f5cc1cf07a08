package consumer

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"herald/consumer/spelling"
)

// ErrSeveralTopics says that the text of a route seems to name several topics. How a caller spells several
// topics is the caller's decision.
var ErrSeveralTopics = errors.New("want one topic")

// ParseRoute parses a route as flags and configuration files spell it: NAME[,key=value…]. White space
// around the name and the options does not count.
//
//	notifications                        shared, the record key is the user
//	notifications,partitioner=murmur2    the same; its producers choose partitions like the Java client
//	orders,user=header:owner             shared, the header "owner" is the user
//	orders,user=json:/owner/id           shared, the string at this JSON pointer into the value is the user
//	team-news,claim=team                 shared, the record key is a value of the claim "team" of tokens
//	notifications.{user}                 one topic for each user
//	notifications.{user},encode=base64url  the same; topics spell their users in base64url
//	announcements,kind=broadcast         for everyone
//	orders,format=registry               values are Avro, Protobuf or JSON by a schema of a registry
//	orders,where=header:region=eu        the records whose header "region" is "eu"; with routes of every kind
func ParseRoute(text string) (Route, error) {
	name, options, hasOptions := strings.Cut(text, ",")
	name = strings.TrimSpace(name)
	r := Route{Topic: name, Kind: Shared}
	if strings.Contains(name, ";") {
		return Route{}, fmt.Errorf("topic %q: a semicolon cannot be in a topic name: %w", text, ErrSeveralTopics)
	}
	if intended := intendedName(name); intended != "" {
		return Route{}, fmt.Errorf("topic %q: did you mean %q, one topic for each user?", text, intended)
	}
	if strings.Contains(name, userPlaceholder) {
		r.Kind = PerUser
	}
	if hasOptions {
		if err := r.setOptions(options); err != nil {
			return Route{}, fmt.Errorf("topic %q: %w", text, err)
		}
	}
	if err := r.validate(); err != nil {
		return Route{}, fmt.Errorf("topic %q: %w", text, err)
	}
	return r, nil
}

// String returns the text of the route, as [ParseRoute] reads it.
func (r Route) String() string {
	text := r.Topic
	if r.Kind == Broadcast {
		text += ",kind=broadcast"
	}
	if r.Encoding != "" {
		text += ",encode=" + string(r.Encoding)
	}
	if r.UserHeader != "" {
		text += ",user=header:" + r.UserHeader
	}
	if r.UserPointer != "" {
		text += ",user=json:" + r.UserPointer
	}
	if r.Claim != "" {
		text += ",claim=" + r.Claim
	}
	if r.Partitioner != "" {
		text += ",partitioner=" + string(r.Partitioner)
	}
	if r.Format != "" {
		text += ",format=" + r.Format
	}
	if r.Where != (Condition{}) {
		text += ",where=" + r.Where.String()
	}
	return text
}

// UnmarshalText implements [encoding.TextUnmarshaler] as [ParseRoute] does.
func (r *Route) UnmarshalText(text []byte) error {
	route, err := ParseRoute(string(text))
	if err == nil {
		*r = route
	}
	return err
}

// placeholderLike matches texts that people write for the user in a topic's name, as other programs spell
// variables and wildcards.
var placeholderLike = regexp.MustCompile(`\$?\{[^{}]*\}?|\$[A-Za-z_]+|<[^<>]*>?|\[[^\[\]]*\]?|:[A-Za-z_]+|%[A-Za-z]|[*+#]`)

// intendedName returns the per-user topic that a name such as "notifications.{usr}" or "notifications.*" was
// probably meant for. It returns "" for a name that is right, and for a name that it cannot explain.
func intendedName(name string) string {
	intended := placeholderLike.ReplaceAllLiteralString(name, userPlaceholder)
	r := Route{Topic: intended, Kind: PerUser}
	if intended == name || r.validate() != nil {
		return ""
	}
	return intended
}

// optionKeys are the keys of the options.
var optionKeys = []string{
	"kind",
	"user",
	"claim",
	"partitioner",
	"encode",
	"format",
	"where",
}

// optionsOfAnyValue are the keys of optionKeys whose values are names that people choose. A text without a key does not say
// that one of them was meant.
var optionsOfAnyValue = []string{"claim"}

// setOptions sets the options of the route's text. It refuses an option that is given twice: the options decide who may
// read the topic's records, and the text does not say which of the two is meant.
func (r *Route) setOptions(options string) error {
	given := make(map[string]bool)
	for option := range strings.SplitSeq(options, ",") {
		option = strings.TrimSpace(option)
		if err := r.setOption(option); err != nil {
			if r.Where != (Condition{}) && !strings.Contains(option, "=") {
				return fmt.Errorf("%q is not an option such as kind=broadcast; the value of where=… has no comma", option)
			}
			return err
		}
		key, _, _ := strings.Cut(option, "=")
		if given[key] {
			return fmt.Errorf("the option %s is given twice", key)
		}
		given[key] = true
	}
	return nil
}

// setOption sets one option of the route's text, such as "kind=broadcast".
func (r *Route) setOption(option string) error {
	key, value, ok := strings.Cut(option, "=")
	if !ok {
		return explainOption(option)
	}
	switch key {
	case "kind":
		return r.setKind(value)
	case "user":
		return r.setUser(value)
	case "claim":
		return r.setClaim(value)
	case "partitioner":
		return r.Partitioner.parse(value)
	case "encode":
		return r.Encoding.parse(value)
	case "format":
		r.Format = value
		return checkFormat(value)
	case "where":
		return r.setWhere(value)
	default:
		if meant := "where=" + option; new(Route).setOption(meant) == nil {
			return fmt.Errorf("unknown option %q, did you mean %q?", key, meant)
		}
		return fmt.Errorf("unknown option %q: want %s%s", key, spelling.AnyOf(optionKeys), spelling.Suggest(key, optionKeys))
	}
}

// explainOption returns the error for a text that is not key=value.
func explainOption(option string) error {
	for _, key := range optionKeys {
		if meant := key + "=" + option; !slices.Contains(optionsOfAnyValue, key) && new(Route).setOption(meant) == nil {
			return fmt.Errorf("option %q is not key=value, did you mean %q?", option, meant)
		}
	}
	if slices.Contains(optionKeys, option) {
		return fmt.Errorf("the option %s needs a value: %[1]s=…", option)
	}
	if option == "" {
		return errors.New("a comma needs an option after it, such as kind=broadcast")
	}
	return fmt.Errorf("%q is not an option such as kind=broadcast: %w", option, ErrSeveralTopics)
}

func (r *Route) setKind(text string) error {
	var names []string
	for _, k := range []Kind{Shared, PerUser, Broadcast} {
		if text == k.String() {
			r.Kind = k
			return nil
		}
		names = append(names, k.String())
	}
	if text == "team" || text == "claim" || text == "group" {
		return fmt.Errorf("kind %q: for everyone whose token has the record key as a value of the claim team, write %q", text, "claim=team")
	}
	return fmt.Errorf("kind %q: want shared, per-user or broadcast%s", text, spelling.Suggest(text, names))
}

// setClaim sets the claim whose values own the records.
func (r *Route) setClaim(name string) error {
	if name == "" {
		return errors.New("claim= needs the name of a claim of tokens, such as claim=team")
	}
	r.Claim = name
	return checkClaim(name)
}

// setWhere sets the condition on the route's records: header:NAME=VALUE.
func (r *Route) setWhere(text string) (err error) {
	if r.Where, err = ParseCondition(text); err != nil {
		return fmt.Errorf("where %w", err)
	}
	return nil
}

// setUser sets where a record names its user: key, header:NAME or json:/POINTER.
func (r *Route) setUser(text string) error {
	place, name, _ := strings.Cut(text, ":")
	switch {
	case text == "key":
		r.UserHeader, r.UserPointer = "", ""
		return nil
	case place == "claim" && name != "":
		return fmt.Errorf("user %q: for everyone whose token has the record key as a value of the claim, write %q", text, "claim="+name)
	case place == "json":
		r.UserHeader, r.UserPointer = "", name
		return checkPointer(name)
	case place == "header" && name != "" && name == strings.TrimSpace(name):
		r.UserHeader, r.UserPointer = name, ""
		return nil
	}
	advice := ""
	if end := strings.IndexAny(text, ":="); end < 0 {
		advice = spelling.Suggest(text, []string{"key"})
	} else if rest := strings.TrimSpace(text[end+1:]); rest != "" {
		advice = spelling.Suggest(text[:end]+":"+rest, []string{"header:" + rest, "json:" + rest})
	}
	return fmt.Errorf("user %q: want key, header:NAME or json:/POINTER%s", text, advice)
}
