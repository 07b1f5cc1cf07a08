package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/sasl"

	"herald/cmd/herald/visible"
)

// separator ends each pair of name and value in a message of OAUTHBEARER (kvsep in RFC 7628, section 3.1).
const separator = "\x01"

// Token is an access token.
type Token struct {
	Text    string
	Expires time.Time // zero: not known
}

// Source gives the token of each log-in. It is safe for concurrent use.
type Source interface {
	// Token returns a token. An error names the flag that it comes from, and has no token and no secret.
	Token(context.Context) (Token, error)
	// Replace gets another token than this one, which a broker refuses. It does not wait for the other one.
	Replace(Token)
	// Advice names the flags that may help if the broker refuses the token, as words that follow "see".
	Advice() string
}

// Bearer is the SASL mechanism OAUTHBEARER (RFC 7628, KIP-255): the client sends an access token, and the broker checks
// it. It is safe for concurrent use.
type Bearer struct {
	source     Source
	extensions []string
}

// NewBearer returns a mechanism with a source of tokens. extensions are pairs NAME=VALUE that the client sends beside the
// token (KIP-342).
func NewBearer(source Source, extensions []string) (*Bearer, error) {
	names := make(map[string]bool)
	for _, pair := range extensions {
		name, value, found := strings.Cut(pair, "=")
		switch {
		case !found || !extensionName.MatchString(name):
			return nil, fmt.Errorf("%q: want NAME=VALUE, such as logicalCluster=lkc-1a2b3c, with only letters in the name", pair)
		case strings.EqualFold(name, "auth"):
			return nil, fmt.Errorf("%q: auth is the name of the token itself: want another name", pair)
		case !extensionValue.MatchString(value):
			return nil, fmt.Errorf("%q: want a value of one or more ASCII characters", pair)
		case names[name]:
			return nil, fmt.Errorf("%q: %s is given twice", pair, name)
		}
		names[name] = true
	}
	return &Bearer{source, extensions}, nil
}

// Kafka's own client accepts these names and values (OAuthBearerClientInitialResponse). Names have letters only in RFC
// 7628, too. Its values may also be empty and have line breaks.
var (
	extensionName  = regexp.MustCompile(`^[A-Za-z]+$`)
	extensionValue = regexp.MustCompile(`^[ -~]+$`)
)

// bearerToken matches the tokens of RFC 6750, section 2.1 (b64token).
var bearerToken = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// errNotToken says that a text cannot be a token, without the text. It continues a sentence that begins with where the
// text comes from.
var errNotToken = errors.New("is not an access token: want letters, digits and - . _ ~ + / only")

// Name implements [sasl.Mechanism].
func (*Bearer) Name() string { return "OAUTHBEARER" }

// Start implements [sasl.Mechanism].
func (b *Bearer) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	token, err := b.source.Token(ctx)
	if err != nil {
		return nil, nil, err
	}
	// "n,," is the header of GS2 (RFC 5801): no channel binding, and no other identity than the token's.
	parts := slices.Concat([]string{"n,,", "auth=Bearer " + token.Text}, b.extensions, []string{"", ""})
	return &bearerSession{source: b.source, token: token}, []byte(strings.Join(parts, separator)), nil
}

// Probe gets a token as a log-in does. The time is when it expires, zero if it does not say.
func (b *Bearer) Probe(ctx context.Context) (time.Time, error) {
	token, err := b.source.Token(ctx)
	return token.Expires, err
}

// Advice returns what to look at if the broker refuses the log-in, as words that follow "see".
func (b *Bearer) Advice() string { return b.source.Advice() }

// bearerSession is one log-in.
type bearerSession struct {
	source  Source
	token   Token
	refusal string // why the broker refuses the token
}

// Next implements [sasl.StateMachine]. A broker that accepts the token sends nothing. A broker that refuses it sends the
// reason in JSON and waits for one separator, after which it fails the log-in (RFC 7628, section 3.2.3).
func (s *bearerSession) Next(_ context.Context, challenge []byte) (bool, []byte, error) {
	switch {
	case s.refusal != "":
		return false, nil, fmt.Errorf("the broker refuses the token: %s", s.refusal)
	case len(challenge) == 0:
		return true, nil, nil
	}
	s.refusal = describeRefusal(challenge)
	return false, []byte(separator), nil
}

// RecordRefusal notes that the broker refuses the log-in, and returns why it refuses the token; "" if it did not say. The text
// has no control characters.
func (s *bearerSession) RecordRefusal() string {
	s.source.Replace(s.token)
	return s.refusal
}

// maxRefusal is the length of the longest text of a broker or of a token endpoint in an error, in bytes.
const maxRefusal = 300

// describeRefusal returns the fields of a broker's JSON in one line.
func describeRefusal(challenge []byte) string {
	var reason struct {
		Status string `json:"status"`
		Scope  string `json:"scope"`
		Config string `json:"openid-configuration"`
	}
	if err := json.Unmarshal(challenge, &reason); err != nil || reason.Status == "" {
		return "it answers " + clean(string(challenge))
	}
	text := "status " + reason.Status
	if reason.Scope != "" {
		text += ", wanted scope " + reason.Scope
	}
	if reason.Config != "" {
		text += ", see " + reason.Config
	}
	return clean(text)
}

// clean returns the text with control characters escaped, and cut after maxRefusal bytes.
func clean(text string) string {
	if len(text) > maxRefusal {
		text = strings.ToValidUTF8(text[:maxRefusal], "") + "…"
	}
	return visible.Text(text)
}
