//go:build !unix

package stream

// direct does nothing on this system. A goroutine makes each write and waits for it.
func (o *connection) direct() {}
