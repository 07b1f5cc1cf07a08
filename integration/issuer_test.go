package integration

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// issuer signs access tokens for Kafka (OAUTHBEARER).
type issuer struct {
	key  *rsa.PrivateKey
	down atomic.Bool // the token endpoint answers with status 503
}

func newIssuer() (*issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	return &issuer{key: key}, err
}

// keySet returns the JSON Web Key Set by which brokers verify the tokens.
func (i *issuer) keySet() []byte {
	encode := base64.RawURLEncoding.EncodeToString
	return fmt.Appendf(nil, `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"one","n":%q,"e":%q}]}`,
		encode(i.key.N.Bytes()), encode(big.NewInt(int64(i.key.E)).Bytes()))
}

// sign returns a token that expires after life.
func (i *issuer) sign(audience string, life time.Duration) (string, error) {
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": "https://issuer.example", "sub": "herald", "aud": audience, "iat": now.Add(min(life, 0)).Unix() - 1, "exp": now.Add(life).Unix(),
	})
	token.Header["kid"] = "one"
	return token.SignedString(i.key)
}

// serve starts a token endpoint, whose tokens live as long, and returns its URL.
func (i *issuer) serve(t *testing.T, life time.Duration) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if user, password, _ := r.BasicAuth(); user != "herald" || password != clientSecret || r.FormValue("grant_type") != "client_credentials" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprint(w, `{"error":"invalid_client","error_description":"wrong secret"}`)
			return
		}
		token, err := i.sign(r.FormValue("audience"), life)
		if err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":%d}`, token, int(life.Seconds()))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// clientFlags returns the flags with which herald gets tokens from an endpoint.
func (b *secureBroker) clientFlags(url string) []string {
	return []string{
		"--kafka-tls", "--kafka-ca-file=" + filepath.Join(b.files, "ca.pem"), "--kafka-sasl-mechanism=OAUTHBEARER",
		"--kafka-oauth-token-url=" + url, "--kafka-oauth-client-id=herald", "--kafka-oauth-audience=kafka",
		"--kafka-oauth-client-secret-file=" + filepath.Join(b.files, "client-secret"),
	}
}

// tokenFlags returns the flags with which herald reads a token from a file.
func (b *secureBroker) tokenFlags(t *testing.T, audience string, life time.Duration) []string {
	t.Helper()
	token, err := b.issuer.sign(audience, life)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"--kafka-tls", "--kafka-ca-file=" + filepath.Join(b.files, "ca.pem"),
		"--kafka-sasl-mechanism=OAUTHBEARER", "--kafka-oauth-token-file=" + file,
	}
}
