package broker

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// TestRefusal checks the text and the advice of refused log-ins, also of a broker that writes what it should not.
func TestRefusal(t *testing.T) {
	for name, test := range map[string]struct {
		refused      refusalError
		text, advice string
	}{
		"other mechanisms": {
			refusalError{mechanism: "PLAIN", err: kerr.UnsupportedSaslMechanism, offered: []string{"SCRAM-SHA-512", "GSSAPI", "SCRAM-SHA-256"}},
			"the broker has no SASL mechanism PLAIN, it has GSSAPI, SCRAM-SHA-256, SCRAM-SHA-512",
			"use --kafka-sasl-mechanism=scram-sha-256 or --kafka-sasl-mechanism=scram-sha-512",
		},
		"Kerberos": {
			refusalError{mechanism: "PLAIN", err: kerr.UnsupportedSaslMechanism, offered: []string{"GSSAPI"}},
			"it has GSSAPI", "Herald has none of them",
		},
		"a password": {
			refusalError{mechanism: "PLAIN", err: kerr.SaslAuthenticationFailed, text: "Authentication failed: Invalid username or password"},
			"the broker refuses the log-in by PLAIN: Authentication failed: Invalid username or password", "see --kafka-sasl-user",
		},
		"a token": {
			refusalError{mechanism: "OAUTHBEARER", err: kerr.SaslAuthenticationFailed, text: "status invalid_token", see: "--kafka-oauth-token-file"},
			"OAUTHBEARER: status invalid_token", "see --kafka-oauth-token-file",
		},
		"another user": {
			refusalError{mechanism: "PLAIN", err: kerr.SaslAuthenticationFailed, text: "Cannot change principals during re-authentication", again: true},
			"PLAIN: Cannot change principals", "a user that has changed takes effect on new connections",
		},
		"no SASL": {
			refusalError{mechanism: "PLAIN", err: kerr.IllegalSaslState},
			"ILLEGAL_SASL_STATE", "the listener wants no SASL: leave --kafka-sasl-mechanism out",
		},
		"no SASL later": {
			refusalError{mechanism: "PLAIN", err: kerr.IllegalSaslState, again: true},
			"ILLEGAL_SASL_STATE", "",
		},
		"a long text of control characters": {
			refusalError{mechanism: "PLAIN", err: kerr.SaslAuthenticationFailed, text: "\x1b[31mno\n" + strings.Repeat("é", 1000)},
			"PLAIN:  [31mno éé", "see --kafka-sasl-user",
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := test.refused.Error()
			if !strings.Contains(text, test.text) || len(text) > longestRefusal+100 {
				t.Errorf("text %q, want %q", text, test.text)
			}
			advice := test.refused.advise()
			if !strings.HasPrefix(advice, test.advice) || (advice == "") != (test.advice == "") {
				t.Errorf("advice %q, want %q", advice, test.advice)
			}
		})
	}
}
