package agent

// SelfTest returns when the locks that each request takes could be had. Those that
// are held while a disk, the TPM or a venue is waited for are left out: how long
// these take is no hang of the agent's.
func (a *Agent) SelfTest() {
	_ = a.log.Status()
	_ = a.ledger.Healthy()
	_ = a.ring.Digest()
	_ = a.inForce()
}
