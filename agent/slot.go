package agent

import (
	"context"
	"sync"
)

// slot lets one request of a nonce key be in flight at a time, so that nonces
// arrive at the venue in the order in which they were issued. Cancels go first.
type slot struct {
	mu      sync.Mutex
	taken   bool
	cancels []chan struct{}
	others  []chan struct{}
}

// take waits for the slot. The caller calls free once it has it.
func (s *slot) take(ctx context.Context, cancel bool) error {
	s.mu.Lock()
	if !s.taken {
		s.taken = true
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	queue := &s.others
	if cancel {
		queue = &s.cancels
	}
	*queue = append(*queue, turn)
	s.mu.Unlock()

	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, waiting := range *queue {
		if waiting == turn {
			*queue = append((*queue)[:i], (*queue)[i+1:]...)
			return ctx.Err()
		}
	}
	s.next() // the turn had come already: it goes to the next in line
	return ctx.Err()
}

// free hands the slot to the next in line.
func (s *slot) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next()
}

func (s *slot) next() {
	queue := &s.cancels
	if len(*queue) == 0 {
		queue = &s.others
	}
	if len(*queue) == 0 {
		s.taken = false
		return
	}
	close((*queue)[0])
	*queue = (*queue)[1:]
}

// slots holds one slot for each key that has asked for it.
type slots struct {
	mu  sync.Mutex
	key map[string]*slot
}

func (s *slots) of(key string) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil {
		s.key = make(map[string]*slot)
	}
	if s.key[key] == nil {
		s.key[key] = new(slot)
	}
	return s.key[key]
}
