// Package event names what an operator may want to be told of when it happens. An
// event is the attribute "event" of a line in the daemon's log; in the journal it is
// the line's MESSAGE_ID besides, which journalctl finds and systemd/sealsign.catalog
// explains.
package event

// Event is the name of what happened. Names and ids are part of the contract with who
// alerts on them: they are added to, never changed.
type Event string

// The events, each with its id in the table below.
const (
	AuditLost       Event = "audit-lost"       // the log takes no records, or administrative acts and cancels only
	AuditBack       Event = "audit-back"       // it takes all again
	Checkpoint      Event = "checkpoint"       // the log's head was signed; the attribute "note" is to be kept elsewhere
	CheckpointLost  Event = "checkpoint-lost"  // it can't be signed or written
	ConfigLoaded    Event = "config-loaded"    // an edit is in force
	ConfigRefused   Event = "config-refused"   // it isn't, and the config before it stays
	Confined        Event = "confined"         // the daemon has shut itself in, or says why it couldn't
	KeyDue          Event = "key-due"          // a key expires soon, or its rotation is due
	KeyExpired      Event = "key-expired"      // its expires has come: it signs nothing any more
	KeyImported     Event = "key-imported"     // by an operator or the inbox
	KeyResumed      Event = "key-resumed"      // by an operator
	KeyRevoked      Event = "key-revoked"      // one version, or all
	KeySuspended    Event = "key-suspended"    // all but cancels, or all
	KeySwitched     Event = "key-switched"     // another version signs
	KeyUnusable     Event = "key-unusable"     // the version that is to sign can't be loaded
	LedgerLost      Event = "ledger-lost"      // nonces and limits can't be kept
	LedgerBack      Event = "ledger-back"      // they can again
	RotationRefused Event = "rotation-refused" // a version didn't stand its trial, and the one before signs on
	SelfTestFailed  Event = "self-test-failed" // a request got no answer in time: the watchdog is about to act
	StoreRecovered  Event = "store-recovered"  // an operator accepted the state folder or the TPM
	StoreUnusable   Event = "store-unusable"   // no key can sign: the store isn't proved to be the newest of this host
	TPMLost         Event = "tpm-lost"         // it doesn't answer
	TPMBack         Event = "tpm-back"         // it answers again
)

// ids are 128 random bits each, as systemd.journal-fields(7) wants them.
var ids = map[Event]string{
	AuditLost:       "d422e5afe43441658e2b97c3f8dd0262",
	AuditBack:       "e3288c745b5546a19eff25b100fac92b",
	Checkpoint:      "3df0e3b973a24b0daf6ba9e97048b7e8",
	CheckpointLost:  "6e0a40e984134cfab28ccc6e06c5d429",
	ConfigLoaded:    "0d7d69512f15470c9794ca8e362b52fc",
	ConfigRefused:   "2726944caa074859837c2766c734d32d",
	Confined:        "0776c8c082f7490199958413dc400cfa",
	KeyDue:          "bea8d106048a4a76b1c3dbb9e9cb1970",
	KeyExpired:      "446b52f5af5e135c29768a184a6ab98b",
	KeyImported:     "022ea8ee4aac4363975b8f19eed4770a",
	KeyResumed:      "2363cf3a8d5041ce89e6ecd0b33e3337",
	KeyRevoked:      "eb5ad1066acf4290b7404a266db2e8c3",
	KeySuspended:    "ba35c77e0c4f4d848f0066e878973181",
	KeySwitched:     "d9bfb988942a48f08e0757f0c4223c3a",
	KeyUnusable:     "f21faf081f62421490bc530c3568147f",
	LedgerLost:      "b31380afcf9d4e91b5cb3da4f2f18b49",
	LedgerBack:      "37d9758b8fb948118919d6b63688b04e",
	RotationRefused: "b1df7fd42a724815b400495f51344296",
	SelfTestFailed:  "28bb701490de4a0698c64d88fc336d2c",
	StoreRecovered:  "b85fd4da30dd4e59852887c2f3d1c5b8",
	StoreUnusable:   "20f82832ed7d4245881a8f3b8aef20de",
	TPMLost:         "673835938da24bbf8265a7ce9d96c3bc",
	TPMBack:         "88478bc9645140048cfee0ad6557de86",
}

// Key is the attribute that an event is in.
const Key = "event"

// ID is the event's MESSAGE_ID: 32 hex digits.
func (e Event) ID() string { return ids[e] }
