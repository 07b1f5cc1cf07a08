// Package auth finds the user who sends a request. [Sources] take the token out of the request, [Keys]
// verify the token's signature, and [JWT] joins the two and reads the claims. [Revocations] refuse tokens
// before they expire. [Explain] says what a client learns about a refused token. SECURITY.md lists the threats that the package defends against.
//
// The package knows nothing of Kafka or of streams.
package auth
