package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckUser(t *testing.T) {
	for _, test := range []struct {
		name, user string
		want       error
	}{
		{"plain", "alice", nil},
		{"address", "alice@example.org", nil},
		{"other scripts", "Ålice 愛", nil},
		{"longest", strings.Repeat("a", 256), nil},
		{"empty", "", ErrUser},
		{"too long", strings.Repeat("a", 257), ErrUser},
		{"NUL", "al\x00ice", ErrUser},
		{"CR", "alice\r", ErrUser},
		{"LF", "alice\nbob", ErrUser},
		{"DEL", "alice\x7f", ErrUser},
		{"C1 control", "alice\u0085", ErrUser},
		{"invalid UTF-8", "alice\xff", ErrUser},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := CheckUser(test.user); !errors.Is(err, test.want) {
				t.Errorf("CheckUser(%q) = %v, want %v", test.user, err, test.want)
			}
		})
	}
}

func TestInsecureTakesTheUserFromTheQuery(t *testing.T) {
	for _, test := range []struct {
		name, query string
		want        Identity
		err         error
	}{
		{"named", "user=alice", Identity{User: "alice", Publish: true}, nil},
		{"escaped", "user=" + url.QueryEscape("a&b c"), Identity{User: "a&b c", Publish: true}, nil},
		{"missing", "", Identity{}, ErrUser},
		{"line break", "user=a%0ab", Identity{}, ErrUser},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events?"+test.query, nil)
			got, err := Insecure{}.Authenticate(r)
			if !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
