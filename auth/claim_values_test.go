package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

// TestClaimValues reads claims other than the user's. A claim that Herald does not know for certain how to read refuses the
// token.
func TestClaimValues(t *testing.T) {
	numbers := func(n int) (list []any, texts []string) {
		for i := range n {
			list, texts = append(list, i), append(texts, strconv.Itoa(i))
		}
		slices.Sort(texts)
		return list, texts
	}
	hundred, hundredTexts := numbers(100)
	tooMany, _ := numbers(101)
	const form = ": it must be a string, an integer, or a list of up to 100 of them"
	j := newJWT(t, func(c *JWTConfig) { c.Claims = []string{"team", "https://app.example/rooms"} })
	for name, test := range map[string]struct {
		claims map[string]any
		want   map[string][]string
		wrong  string
	}{
		"none":             {nil, nil, ""},
		"a string":         {map[string]any{"team": "red"}, map[string][]string{"team": {"red"}}, ""},
		"an integer":       {map[string]any{"team": 42}, map[string][]string{"team": {"42"}}, ""},
		"a list":           {map[string]any{"team": []any{"red", 42, "blue", "red", "42"}}, map[string][]string{"team": {"42", "blue", "red"}}, ""},
		"an empty list":    {map[string]any{"team": []any{}}, nil, ""},
		"the most values":  {map[string]any{"team": hundred}, map[string][]string{"team": hundredTexts}, ""},
		"two claims":       {map[string]any{"team": "red", "https://app.example/rooms": []any{"red"}}, map[string][]string{"team": {"red"}, "https://app.example/rooms": {"red"}}, ""},
		"another spelling": {map[string]any{"Team": "red", "teams": "red"}, nil, ""},
		"the longest":      {map[string]any{"team": strings.Repeat("é", 128)}, map[string][]string{"team": {strings.Repeat("é", 128)}}, ""},
		"one too many":     {map[string]any{"team": tooMany}, nil, "the claim team has more than 100 values"},
		"true":             {map[string]any{"team": true}, nil, "the claim team has a value that is true or false" + form},
		"a fraction":       {map[string]any{"team": []any{"red", 1.5}}, nil, "the claim team has a value that is a number, but not an integer in decimal" + form},
		"an object":        {map[string]any{"team": map[string]any{"name": "red"}}, nil, "the claim team has a value that is an object" + form},
		"a list in a list": {map[string]any{"team": []any{[]any{"red"}}}, nil, "the claim team has a value that is an array" + form},
		"null in a list":   {map[string]any{"team": []any{nil}}, nil, "the claim team has a value that is null" + form},
		"empty":            {map[string]any{"team": []any{"red", ""}}, nil, "the claim team has a value that is empty"},
		"a line break":     {map[string]any{"team": "red\n"}, nil, "the claim team has a value that is text with control characters"},
		"too long":         {map[string]any{"team": strings.Repeat("é", 128) + "x"}, nil, "the claim team has a value that is longer than 256 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := authenticate(t, j, "Bearer "+sign(t, alice(test.claims)))
			if test.wrong != "" {
				checkNobody(t, id)
				if got := Explain(err); !errors.Is(err, ErrInvalidToken) || got.Reason != "claim" || got.Message != test.wrong {
					t.Errorf("%+v for %v, want %q", got, err, test.wrong)
				}
				return
			}
			if diff := cmp.Diff(test.want, id.Claims); diff != "" || err != nil || id.User != "alice" {
				t.Errorf("%+v, %v (-want +got):\n%s", id, err, diff)
			}
		})
	}
	null := sign(t, jwt.MapClaims{"sub": "alice", "exp": later.Unix(), "team": nil})
	if id, err := authenticate(t, j, "Bearer "+null); err != nil || id.Claims != nil {
		t.Errorf("null is no value, but: %+v, %v", id, err)
	}
}

// TestSignedClaims signs claims and conditions, and reads them back.
func TestSignedClaims(t *testing.T) {
	signer, err := NewSecretSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	id := Identity{User: "alice", Expires: later, IssuedAt: now, Where: []string{"header:region=eu"}, Claims: map[string][]string{"team": {"blue", "red"}, "room": {"1"}}}
	token, err := signer.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	j := newJWT(t, func(c *JWTConfig) {
		c.Claims, c.CheckWhere = []string{"room", "team"}, func([]string) error { return nil }
	})
	got, err := authenticate(t, j, "Bearer "+token)
	if diff := cmp.Diff(id, got); diff != "" || err != nil {
		t.Errorf("%v (-signed +read):\n%s", err, diff)
	}
	for _, name := range []string{"sub", "exp", "iat", "herald"} {
		id.Claims = map[string][]string{name: {"mallory"}}
		if token, err := signer.Sign(id); err == nil {
			t.Errorf("the claim %s is overwritten: %s", name, token)
		}
	}
}

// TestConditionsOfAGrant checks that a token whose conditions nobody can evaluate is refused.
func TestConditionsOfAGrant(t *testing.T) {
	good := func(conditions []string) error {
		if len(conditions) > 1 {
			return errors.New("secret")
		}
		return nil
	}
	for name, test := range map[string]struct {
		where any
		check func([]string) error
		want  []string // nil: the token is refused
	}{
		"good":            {[]any{"header:region=eu"}, good, []string{"header:region=eu"}},
		"none":            {[]any{}, good, []string{}},
		"not valid":       {[]any{"a", "b"}, good, nil},
		"no list":         {"header:region=eu", good, nil},
		"no text":         {[]any{1}, good, nil},
		"too long":        {[]any{strings.Repeat("a", 257)}, good, nil},
		"nobody checks":   {[]any{"header:region=eu"}, nil, nil},
		"nobody checks 0": {[]any{}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJWT(t, func(c *JWTConfig) { c.CheckWhere = test.check })
			id, err := authenticate(t, j, "Bearer "+sign(t, alice(grant("where", test.where))))
			if diff := cmp.Diff(test.want, id.Where); diff != "" || (err == nil) != (test.want != nil) || err != nil && !strings.Contains(Explain(err).Message, "a malformed member where: it must be a list of up to 20 conditions") {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error has a text of the token: %v", err)
			}
		})
	}
}

// TestClaimsOfTheQuery reads claims from the query of a server that authenticates nobody.
func TestClaimsOfTheQuery(t *testing.T) {
	for query, want := range map[string]map[string][]string{
		"user=alice":                nil,
		"user=alice&claim.team=red": {"team": {"red"}},
		"user=alice&claim.team=red&claim.team=blue&claim.team=red":  {"team": {"blue", "red"}},
		"user=alice&claim.room=1&claim.teams=2":                     nil,
		"user=alice&" + url.QueryEscape("claim.https://a/b") + "=x": {"https://a/b": {"x"}},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events?"+query, nil)
		id, err := Insecure{Claims: []string{"team", "https://a/b"}}.Authenticate(r)
		if diff := cmp.Diff(want, id.Claims); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", query, err, diff)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events?user=alice&claim.team=%0a", nil)
	if id, err := (Insecure{Claims: []string{"team"}}).Authenticate(r); !errors.Is(err, ErrUser) {
		t.Errorf("%+v, %v, want %v", id, err, ErrUser)
	}
}
