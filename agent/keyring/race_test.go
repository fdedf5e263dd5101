//go:build race

package keyring

// raceEnabled: the race detector allocates, and makes pools forget.
const raceEnabled = true
