// Package audit is the transparency log: what was asked of the agent, what was
// decided and by which rule, and what came of it, in a form that shows every later
// change. Everything can be checked from the files and the public key alone, with
// Verify or with public tools.
//
// # Files
//
// All of them are in one folder:
//
//	00000001.jsonl …   segments: the records, one JSON object a line, oldest first
//	hashes             the hashes of the tree over all lines; can be made again from the segments
//	checkpoints        signed tree heads, oldest first
//	public-key.pem     the keys that signed them, PEM, the newest last
//	*.torn             what a crash left of a record or checkpoint, set aside
//	reserve            empty space, given up for the last important records when the disk is full
//
// # Records
//
// The lines are numbered from 0 through all segments; the number is the record's
// "id". A line is the object that Record describes, written in one way only:
//
//   - fields in the order of Record, no spaces, one newline (U+000A) at the end;
//   - id, time, kind, caller, key, version, method, host, path, operation,
//     decision, rule and reason always, the others only where they say something;
//     uid and pid together, where pid isn't 0; of in outcomes only;
//   - times in UTC as RFC 3339, with as many digits of the second as needed;
//   - in strings, the quotation mark, the backslash, and every character that is
//     not visible text (Unicode Cc, Cf, Zl and Zp: control characters, bidirectional
//     and other format marks) and U+FFFD are escaped, as \" and \\ or \uXXXX.
//     Bytes that aren't UTF-8 stand as \ufffd.
//
// So a line can be read in one way only, and can hide nothing on a terminal.
//
// Kinds are "decision", "outcome" (of a forwarded request; "of" is the id of its
// decision), "admin", and "recovery": the log's own words on what it set aside, on
// times in which it could take no record, and on a change of the signing key.
//
// # Tree
//
// The leaves are the lines without their newline, in the Merkle tree of RFC 6962,
// section 2.1:
//
//	leaf = SHA-256(0x00 || line)     node = SHA-256(0x01 || left || right)
//
// The file hashes holds each leaf and each node above a full pair, 32 bytes each,
// in the order of golang.org/x/mod/sumdb/tlog (StoredHashIndex).
//
// # Checkpoints
//
// A checkpoint is a C2SP tlog-checkpoint (c2sp.org/tlog-checkpoint), a signed note
// (c2sp.org/signed-note), followed by an empty line:
//
//	ORIGIN
//	SIZE                        number of records covered
//	ROOT                        of the tree of these, base64
//	time 2026-11-23T12:00:00Z   never earlier than the checkpoint before
//	NAME VALUE                  digests of what was in force, e.g. "config sha256:…", sorted by name
//
//	— ORIGIN SIGNATURE
//
// The signature is of type 0x02: base64 of the key id (the first 4 bytes of the
// SHA-256 of the key's SubjectPublicKeyInfo, DER) and an ECDSA signature, DER, over
// the SHA-256 of the text up to and without the empty line. It covers everything
// that is in the segments up to SIZE, and only records that are synced to disk. A
// log keeps the origin that it began with.
//
// # When a record counts
//
// Append returns when the record is where Options.Sync says: "group", on disk (one
// fsync serves all records that wait); "interval", in the kernel, and on disk within
// a second. A record that must be on disk first says so (durable).
//
// If a write or fsync fails, nothing of that batch counts: all that wait get
// AUDIT_UNAVAILABLE and, before anything else is written, the segment is opened anew
// and cut back to the last record that was acknowledged. After a failed fsync
// the kernel may have dropped what it held: records that were acknowledged but
// not yet synced are read back, compared with the tree and written again, and the
// log goes on in a new segment. If some are gone, a recovery record says how many.
// The log tries again by itself with the next Append, after a pause.
//
// If the process is killed after a failed write and before it cut the segment back,
// a record may stay in the log whose request was refused: the log may say more
// than what happened, never less.
//
// When the disk is full, the reserve is given up, and only administrative acts and
// cancels are taken until there is room for it again.
package audit
