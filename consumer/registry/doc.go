// Package registry asks schema registries over HTTP, for package [herald/consumer/format].
//
// [Client].Get makes one request. It tries the URLs of one registry in turn, sends credentials to no other host, because
// it follows no redirects, and bounds time and length of answers. It decides what an answer means: the thing itself, a
// definite no ([format.ErrNotFound]), or a registry that does not answer, such as after a wrong password. Whether and when
// to ask again is up to the caller.
package registry
