package agent

// Queued tells how many requests wait for the slot of a nonce key.
func (a *Agent) Queued(key string) int {
	s := a.slots.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.cancels) + len(s.others)
}
