package tpm

// DialForTest opens a transport to the TPM that o names, for what a test does to
// the TPM behind a Device's back.
func DialForTest(o Options) (Transport, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	return o.Dial()
}

// OfHostForTest is a parent that asks for the approvals of another host.
func (p *Parent) OfHostForTest(hostID string) *Parent {
	other := *p
	other.hostID = hostID
	return &other
}
