package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The kinds of records.
const (
	KindDecision = "decision" // a request was allowed or denied
	KindOutcome  = "outcome"  // what came of a forwarded request
	KindAdmin    = "admin"    // an administrative act
	KindRecovery = "recovery" // the log's own
)

// The decisions.
const (
	Allow = "allow"
	Deny  = "deny"
)

// opCancel is the operation of requests that only cancel.
const opCancel = "cancel"

// Record is one line of the log. No field ever holds a secret, a body, or a
// venue's signature. A new version of sealsign may add fields at the end, that are
// left out when empty; none is ever changed.
type Record struct {
	ID         uint64    `json:"id"`   // the number of its leaf; set by the log
	Time       time.Time `json:"time"` // set by the log if zero
	Kind       string    `json:"kind"`
	Caller     string    `json:"caller"`         // its name in the config; empty: unknown
	Unit       string    `json:"unit,omitempty"` // systemd unit
	UID        uint32    `json:"uid"`            // written only with PID
	PID        int       `json:"pid"`
	Key        string    `json:"key"`
	Version    int       `json:"version"`
	Mode       string    `json:"mode,omitempty"` // forward, release, login
	Method     string    `json:"method"`
	Host       string    `json:"host"`
	Path       string    `json:"path"`      // without the query
	Operation  string    `json:"operation"` // the strongest of the effects, or the administrative act
	Effects    []Effect  `json:"effects,omitempty"`
	Query      Digest    `json:"query_sha256,omitzero"`
	Body       Digest    `json:"body_sha256,omitzero"`
	Decision   string    `json:"decision"`
	Rule       string    `json:"rule"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message,omitempty"`
	Of         uint64    `json:"of"`                    // written only in outcomes: the id of the decision
	Status     int       `json:"status,omitempty"`      // of the venue's HTTP answer
	Sent       string    `json:"sent,omitempty"`        // no, yes, unknown
	DurationUS int64     `json:"duration_us,omitempty"` // until the head of the answer
	Count      int       `json:"count,omitempty"`       // of merged denials
}

// Effect is one thing that a request does at the venue, in the venue's own words.
type Effect struct {
	Operation     string `json:"operation"`
	Symbol        string `json:"symbol,omitempty"`
	Side          string `json:"side,omitempty"`
	Type          string `json:"type,omitempty"`
	Quantity      string `json:"quantity,omitempty"`
	QuoteQuantity string `json:"quote_quantity,omitempty"`
	Price         string `json:"price,omitempty"`
	ClientOrderID string `json:"client_order_id,omitempty"`
	Asset         string `json:"asset,omitempty"`
	Network       string `json:"network,omitempty"`
	Address       string `json:"address,omitempty"`
	Tag           string `json:"tag,omitempty"`
}

// Digest is a SHA-256, in lower-case hex in the log. The zero Digest is none.
type Digest [32]byte

// UnmarshalText reads 64 hex digits.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("a SHA-256 has 64 hex digits, not %d", len(text))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// essential reports whether the record may use the reserve when the disk is full:
// suspend, revoke and cancel must work then.
func (r *Record) essential() bool { return r.Kind == KindAdmin || r.Operation == opCancel }

var errForm = errors.New("not in the one form that this version of sealsign writes")

// ParseRecord reads one line, without its newline. It accepts no other bytes than
// the log writes for that record.
func ParseRecord(line []byte) (*Record, error) {
	r := new(Record)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, err
	}
	if !bytes.Equal(appendLine(make([]byte, 0, len(line)+32), r), line) {
		return nil, errForm
	}
	return r, nil
}
