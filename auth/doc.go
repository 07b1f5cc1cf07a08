// Package auth turns a request into the identity of its user: [Sources] say where the token is, [Keys]
// which signatures are good, [JWT] joins them. SECURITY.md has the threats that it is made against.
//
// It knows nothing of Kafka or of streams.
package auth
