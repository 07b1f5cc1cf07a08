package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/twmb/franz-go/pkg/kerr"
)

// longestRefusal bounds the text of a broker that refuses a log-in, in bytes.
const longestRefusal = 500

// refusalError is the error of a log-in that a broker refuses.
type refusalError struct {
	mechanism string
	err       error    // Kafka's code
	text      string   // what the broker says; may be empty
	offered   []string // the broker's mechanisms if it does not have this one; may be empty
	see       string   // the mechanism's advice; empty for a user and a password
	again     bool     // the connection was logged in before
}

// Unwrap returns Kafka's code.
func (r *refusalError) Unwrap() error { return r.err }

func (r *refusalError) Error() string {
	switch {
	case r.text != "":
		return fmt.Sprintf("the broker refuses the log-in by %s: %s", r.mechanism, clean(r.text))
	case len(r.offered) > 0:
		return fmt.Sprintf("the broker has no SASL mechanism %s, it has %s", r.mechanism, clean(strings.Join(slices.Sorted(slices.Values(r.offered)), ", ")))
	default:
		return fmt.Sprintf("the broker refuses the log-in by %s: %v", r.mechanism, r.err)
	}
}

// clean returns a broker's text in one line of at most longestRefusal bytes.
func clean(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), longestRefusal)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// mechanismFlags has the values of --kafka-sasl-mechanism by the names of the mechanisms.
var mechanismFlags = map[string]string{
	"PLAIN": "plain", "SCRAM-SHA-256": "scram-sha-256", "SCRAM-SHA-512": "scram-sha-512",
	"OAUTHBEARER": "oauthbearer", "AWS_MSK_IAM": "aws-msk-iam",
}

// advise returns which of Herald's flags may help.
func (r *refusalError) advise() string {
	switch {
	case errors.Is(r.err, kerr.UnsupportedSaslMechanism):
		return r.adviseMechanism()
	case errors.Is(r.err, kerr.IllegalSaslState) && !r.again:
		return "the listener wants no SASL: leave --kafka-sasl-mechanism out, or name a listener that does in --brokers"
	case !errors.Is(r.err, kerr.SaslAuthenticationFailed):
		return ""
	}
	if r.again && strings.Contains(r.text, "principal") { // Kafka's word for a user
		return "a user that has changed takes effect on new connections, which Herald opens"
	}
	if r.see != "" {
		return "see " + r.see
	}
	return "see --kafka-sasl-user and --kafka-sasl-password-file, and whether the user has a password for this --kafka-sasl-mechanism"
}

// adviseMechanism names the flag's values for the listener's mechanisms.
func (r *refusalError) adviseMechanism() string {
	if len(r.offered) == 0 {
		return "the listener has other mechanisms: change --kafka-sasl-mechanism"
	}
	var values []string
	for _, name := range slices.Sorted(slices.Values(r.offered)) {
		if value, known := mechanismFlags[name]; known {
			values = append(values, "--kafka-sasl-mechanism="+value)
		}
	}
	if values == nil {
		return "Herald has none of them: name another listener in --brokers"
	}
	return "use " + strings.Join(values, " or ")
}
