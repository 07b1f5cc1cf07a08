//go:build !unix

package stream

// direct makes writes possible that do not wait; not here: each write is made by a goroutine.
func (o *connection) direct() {}
