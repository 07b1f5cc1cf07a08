// Package listener has what a public listener of any server needs: TCP addresses, Unix sockets and systemd's sockets, a
// bound on its connections that makes room by closing idle ones, PROXY headers, TLS handshakes on goroutines of their own, a
// certificate that follows its files, and the limit of open files. It knows nothing of Herald but package textfile.
//
// A connection's way: [Limited.Accept] accepts it and waits for a place. The server reports a
// connection that is new or idle to [Limited.ConnState], which puts the connection into waiting. A
// handler that begins takes the connection out ([Limited.Hold]), and its end puts the connection back.
// While all places are taken, Accept closes the first connection in waiting. When a connection closes,
// it gives its place back.
//
// With [ProxyProtocol], the first use of a connection reads its PROXY header. net/http's first use is RemoteAddr, on the
// connection's own goroutine. Until then the connection counts as the proxy's; Limited.moveClient notes its client.
//
// With [TLS], Accept starts the handshake on a goroutine of its own. net/http sets the deadline for it
// and waits for its result. During the handshake, the connection is in waiting.
//
// All of a Limited's state is under its one lock. A connection is closed for room under that lock,
// so that no handler can hold it in between.
package listener
