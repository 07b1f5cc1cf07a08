package integration

import "sync"

// shared is something that all tests share. The first test that needs it makes it.
type shared[T any] struct {
	once  sync.Once
	value T
	err   error
}

// get returns the value, which make has filled in. An error of the first call is the error of all calls.
func (s *shared[T]) get(fill func(*T) error) (*T, error) {
	s.once.Do(func() { s.err = fill(&s.value) })
	return &s.value, s.err
}
