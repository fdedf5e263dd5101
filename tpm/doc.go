// Package tpm uses a TPM 2.0 to keep secrets and to sign: it seals short
// secrets, imports and generates keys that never leave the chip, signs
// checkpoints with a restricted key and keeps monotonic counters. It knows
// nothing of venues or policy.
//
// [Open] gives a [Device]. Behind it one goroutine owns the connection, since a
// TPM does one thing at a time; callers queue, and one whose context ends
// leaves while its command is finished. Everything sealed or imported is bound
// to the storage root key (SRK), whose Name the caller pins.
//
// A reader begins with device.go (what callers see), then queue.go (who runs
// what, and what is tried again), conn.go (what lives and dies with one
// connection) and session.go (how the bus is kept from reading along).
//
// References are to the TCG's "Trusted Platform Module Library", revision 1.59:
// part 1 architecture, part 2 structures, part 3 commands.
package tpm
