// Package auth turns a request into the identity of its user. It knows nothing of Kafka or of
// streams.
package auth
