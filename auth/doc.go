// Package auth finds the user who sends a request. [Sources] take the token out of the request, [Keys]
// verify the token's signature, and [JWT] joins the two and reads the claims. [Revocations] refuse tokens
// before they expire. [Explain] says what a client learns about a refused token. SECURITY.md lists the threats that
// the package defends against.
//
// The way of a token: [JWT.Authenticate] takes it out of the request (source.go). [JWT.Verify] finds the keys that its
// header asks for, parses it by the library jwt, and reads its claims (jwt.go, claims.go).
//
// Where things are: key.go has the interface Keys, and keys from files; algorithm.go the names of algorithms;
// public_key.go public keys in PEM; secret.go secrets; refusal.go what a client learns. Of a key set, jwks.go has the
// state, jwks_fetch.go the fetches, jwks_find.go the search for a token's keys, and jwk.go the parser. contents.go
// recognizes files that were meant for another flag. sign.go makes tokens, for development and tests.
//
// The package knows nothing of Kafka or of streams. Of Herald, it imports auth/textfile, which reads files of secrets,
// and auth/remote, which makes the client for the server of a key set.
package auth
