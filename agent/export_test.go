package agent

import "time"

// Tend does now what the agent does each minute.
func (a *Agent) Tend(warned time.Time) time.Time { return a.tend(warned) }

// Seen and Kept are the latest time in memory and on disk.
func (a *Agent) Seen() time.Time { return a.ledger.Seen() }
func (a *Agent) Kept() time.Time { return a.ledger.Kept() }

// Queued tells how many requests wait for the slot of a nonce key.
func (a *Agent) Queued(key string) int {
	s := a.slots.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.cancels) + len(s.others)
}
