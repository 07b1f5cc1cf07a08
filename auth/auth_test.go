package auth

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var secret = []byte(strings.Repeat("s", minSecret))

func TestTokens(t *testing.T) {
	j, err := NewJWT(secret)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(method jwt.SigningMethod, key any, sub string, exp time.Time) string {
		token, err := jwt.NewWithClaims(method, jwt.RegisteredClaims{Subject: sub, ExpiresAt: jwt.NewNumericDate(exp)}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for _, test := range []struct {
		name, header string
		want         error
	}{
		{"good", sign(jwt.SigningMethodHS256, secret, "alice", later), nil},
		{"lower-case scheme", strings.Replace(sign(jwt.SigningMethodHS256, secret, "alice", later), "Bearer", "bearer", 1), nil},
		{"none given", "", ErrNoToken},
		{"algorithm none", sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "alice", later), ErrInvalidToken},
		{"another algorithm", sign(jwt.SigningMethodHS512, secret, "alice", later), ErrInvalidToken},
		{"another key", sign(jwt.SigningMethodHS256, []byte("other"), "alice", later), ErrInvalidToken},
		{"expired", sign(jwt.SigningMethodHS256, secret, "alice", past), ErrInvalidToken},
		{"no user", sign(jwt.SigningMethodHS256, secret, "", later), ErrUser},
		{"line break in the user", sign(jwt.SigningMethodHS256, secret, "a\nb", later), ErrUser},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", test.header)
			id, err := j.Authenticate(r)
			if !errors.Is(err, test.want) || err == nil && id.User != "alice" {
				t.Errorf("%+v, %v; want %v", id, err, test.want)
			}
		})
	}
	if _, err := NewJWT([]byte("short")); err == nil {
		t.Error("a short secret is taken")
	}
}

func TestSignedTokenIsTaken(t *testing.T) {
	j, err := NewJWT(secret)
	if err != nil {
		t.Fatal(err)
	}
	token, err := j.Sign(Identity{User: "alice", Expires: time.Now().Add(time.Hour), Publish: true})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	if id, err := j.Authenticate(r); err != nil || id.User != "alice" || !id.Publish {
		t.Errorf("%+v, %v", id, err)
	}
}
