package login

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// fixed is a source with one token.
type fixed string

func (f fixed) Token(context.Context) (Token, error) { return Token{Text: string(f)}, nil }
func (f fixed) Replace(Token)                        {}
func (f fixed) Advice() string                       { return "nothing" }

// TestBearerMessage compares the first message with the example of RFC 7628, section 4.1, in the form that Kafka's own
// client sends (KIP-255, KIP-342).
func TestBearerMessage(t *testing.T) {
	for name, test := range map[string]struct {
		extensions []string
		want       string
	}{
		"token":      {nil, "n,,\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"},
		"extensions": {[]string{"logicalCluster=lkc-1", "identityPoolId=pool-2"}, "n,,\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01logicalCluster=lkc-1\x01identityPoolId=pool-2\x01\x01"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := NewBearer(fixed("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="), test.extensions)
			if err != nil {
				t.Fatal(err)
			}
			session, first, err := m.Start(t.Context())
			if err != nil || string(first) != test.want || m.Name() != "OAUTHBEARER" {
				t.Errorf("%s sends %q, %v, want %q", m.Name(), first, err, test.want)
			}
			if done, answer, err := session.Next(t.Context(), nil); !done || len(answer) > 0 || err != nil {
				t.Errorf("after an empty challenge: done %v, %q, %v", done, answer, err)
			}
		})
	}
}

// TestBearerRefused answers with the reason of a broker. The client must send one 0x01 (RFC 7628, section 3.2.3), and fail
// if the broker then does not.
func TestBearerRefused(t *testing.T) {
	for challenge, want := range map[string]string{
		`{"status":"invalid_token"}`: "status invalid_token",
		`{"status":"insufficient_scope","scope":"kafka","openid-configuration":"https://issuer.example/.well-known/openid-configuration"}`: "status insufficient_scope, wanted scope kafka, see https://issuer.example/.well-known/openid-configuration",
		"no\x1b[31m JSON\n":                            `it answers no\x1b[31m JSON\n`,
		`{"status":"a\u001b[2Jb"}`:                     `status a\x1b[2Jb`,
		`{"status":"` + strings.Repeat("é", 999) + `"`: "…",
	} {
		m, err := NewBearer(fixed("t"), nil)
		if err != nil {
			t.Fatal(err)
		}
		session, _, err := m.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done, answer, err := session.Next(t.Context(), []byte(challenge))
		if done || string(answer) != "\x01" || err != nil {
			t.Errorf("%.30q: done %v, sends %q, %v, want 0x01", challenge, done, answer, err)
		}
		if refusal := session.(interface{ RecordRefusal() string }).RecordRefusal(); !strings.HasSuffix(refusal, want) || len(refusal) > 400 {
			t.Errorf("%.30q: the refusal is %q, want %q", challenge, refusal, want)
		}
		if done, _, err := session.Next(t.Context(), nil); done || err == nil {
			t.Errorf("%.30q: a broker that refuses and then accepts: done %v, %v", challenge, done, err)
		}
	}
}

// TestExtensions wants errors for extensions that a broker would refuse or take for something else.
func TestExtensions(t *testing.T) {
	for extension, want := range map[string]string{ //nolint:gosec // no credentials
		"logicalCluster": "want NAME=VALUE", "=x": "want NAME=VALUE", "a1=x": "only letters", "a b=x": "only letters",
		"auth=Bearer x": "auth is the name of the token itself", "AUTH=x": "auth is the name", "a=": "one or more ASCII", "a=b\x01c=d": "ASCII", "a=é": "ASCII", "a=x\ny": "ASCII",
	} {
		if _, err := NewBearer(fixed("t"), []string{extension}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", extension, err, want)
		}
	}
	if _, err := NewBearer(fixed("t"), []string{"a=1", "a=2"}); err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("an extension that is given twice: %v", err)
	}
	if _, err := NewBearer(fixed("t"), []string{"a=b=c ~!", "b=1"}); err != nil {
		t.Error(err)
	}
}

// signed returns a JWT that expires at the time.
func signed(t *testing.T, expires time.Time) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"exp": expires.Unix(), "sub": 7}).SignedString([]byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestFile writes tokens into the file between log-ins. Errors must name the flag and must not have the token.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	soon, past := time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(-time.Hour).Truncate(time.Second)
	for name, test := range map[string]struct {
		text, token, wrong string
		expires            time.Time
	}{
		"opaque":          {"secretT0ken", "secretT0ken", "", time.Time{}},
		"line break":      {"secretT0ken==\r\n", "secretT0ken==", "", time.Time{}},
		"JWT":             {signed(t, soon) + "\n", signed(t, soon), "", soon},
		"expired":         {signed(t, past), signed(t, past), "", past}, // the broker's clock counts
		"dots":            {"a.b.c", "a.b.c", "", time.Time{}},
		"empty":           {"", "", "is empty", time.Time{}},
		"separator":       {"secretT0ken\x01auth=x", "", "control character", time.Time{}},
		"lines":           {"secretT0ken\r\nx", "", "line break", time.Time{}},
		"two words":       {"Bearer secretT0ken", "", "is not an access token", time.Time{}},
		"JSON of a token": {`{"access_token":"secretT0ken"}`, "", "is not an access token", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := File(path).Token(t.Context())
			if got.Text != test.token || !got.Expires.Equal(test.expires) || (err != nil) != (test.wrong != "") {
				t.Errorf("got %+v, %v", got, err)
			}
			if err != nil && (!strings.HasPrefix(err.Error(), "--kafka-oauth-token-file: ") || !strings.Contains(err.Error(), test.wrong) || strings.Contains(err.Error(), "secretT0ken")) {
				t.Errorf("%v, want the flag and %q, without the token", err, test.wrong)
			}
			expired := strings.Contains(File(path).Advice(), "the token expired at "+past.UTC().Format(time.RFC3339))
			if expired != test.expires.Equal(past) || !strings.HasPrefix(File(path).Advice(), "--kafka-oauth-token-file") {
				t.Errorf("the advice is %q", File(path).Advice())
			}
		})
	}
	if _, err := File(path + "2").Token(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
}
