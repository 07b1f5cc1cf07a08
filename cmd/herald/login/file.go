package login

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"herald/auth/textfile"
)

// File is the path of a file with an access token, one line of text. It is read for each log-in, so another program may
// renew the token. File is a [Source].
type File string

// fileFlag is the flag that names the file.
const fileFlag = "--kafka-oauth-token-file"

// Token implements [Source].
func (f File) Token(context.Context) (Token, error) { return f.Read() }

// Read reads the file. It refuses a pipe: opening a pipe waits for a writer, and no log-in could end that.
func (f File) Read() (Token, error) {
	if info, err := os.Stat(string(f)); err == nil && !info.Mode().IsRegular() {
		return Token{}, fmt.Errorf("%s: %s is not a regular file: want one that Herald can read for each log-in", fileFlag, string(f))
	}
	text, err := textfile.ReadSecret(string(f))
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", fileFlag, err)
	}
	if !bearerToken.Match(text) {
		return Token{}, fmt.Errorf("%s: %s %w", fileFlag, string(f), errNotToken)
	}
	return Token{string(text), expiry(string(text))}, nil
}

// Replace implements [Source]. The next log-in reads the file anyway.
func (File) Replace(Token) {}

// Advice implements [Source].
func (f File) Advice() string {
	if token, err := f.Read(); err == nil && !token.Expires.IsZero() && time.Now().After(token.Expires) {
		return fmt.Sprintf("%s: the token expired at %s", fileFlag, token.Expires.UTC().Format(time.RFC3339))
	}
	return fileFlag + ", and whether the broker accepts the token's issuer and audience"
}

// expiry returns when a token expires that is a JWT with the claim exp. It returns zero for another token. Nothing is
// verified: the broker does that.
func expiry(token string) time.Time {
	claims := make(jwt.MapClaims)
	_, _, _ = jwt.NewParser().ParseUnverified(token, claims) // the claims are there also if the algorithm is unknown
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil {
		return time.Time{}
	}
	return expires.Time
}
