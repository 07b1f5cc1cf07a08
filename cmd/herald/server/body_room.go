package server

import "sync"

// bodyRoom bounds the bytes of bodies in memory, from the time that a body is asked for until Kafka has it. One user
// may take a quarter and a body, so that a user who sends bodies slowly leaves room to others. Its methods may be called
// concurrently.
type bodyRoom struct {
	total int64

	mu    sync.Mutex
	share int64 // the most that one user may take
	free  int64
	users map[string]int64 // the bytes that each user has taken; users without any are not in it
}

// newBodyRoom returns room for at least one body of that many bytes.
func newBodyRoom(bytes, largest int64) *bodyRoom {
	return &bodyRoom{total: bytes, share: bytes/4 + largest, free: max(bytes, largest), users: make(map[string]int64)}
}

// setLargest changes the size of the largest body, which must not exceed all room.
func (r *bodyRoom) setLargest(largest int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.share = r.total/4 + largest
}

// take takes room for a user's body. It returns false if there is none.
func (r *bodyRoom) take(user string, bytes int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes > r.free || r.users[user]+bytes > r.share {
		return false
	}
	r.free -= bytes
	r.users[user] += bytes
	return true
}

// giveBack gives back what take has taken. 0 gives nothing back.
func (r *bodyRoom) giveBack(user string, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free += bytes
	if r.users[user] -= bytes; r.users[user] <= 0 {
		delete(r.users, user)
	}
}
