package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/metrics"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

// Whether a request reached the venue, as records and answers say it.
const (
	sentNo      = "no"
	sentYes     = "yes"
	sentUnknown = "unknown"
)

// begin starts the record of a request with what is known before it is judged.
func begin(who *caller.Caller, ask *Ask, at time.Time) audit.Record {
	r := &ask.Request
	return audit.Record{
		Kind: audit.KindDecision, Time: at, UID: who.UID, PID: who.PID, Unit: who.Unit,
		Key: clip(ask.Key), Mode: string(ask.Mode), Method: clip(r.Method), Host: clip(r.Host), Path: r.Path,
		Query: digestOf([]byte(r.Query)), Body: digestOf(r.Body),
	}
}

// maxText is how many bytes of what a caller calls a key, a method or a host are
// kept: more than any has.
const maxText = 128

func clip(text string) string {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

func digestOf(data []byte) audit.Digest {
	if len(data) == 0 {
		return audit.Digest{}
	}
	return sha256.Sum256(data)
}

// strength orders operations for the record's one word: of a batch, the effect
// that an auditor looks for first.
var strength = map[venue.Operation]int{
	venue.Withdraw: 9, venue.Transfer: 8, venue.Admin: 7, venue.Session: 6, venue.Unknown: 5,
	venue.Trade: 4, venue.Settings: 3, venue.Cancel: 2, venue.Read: 1, venue.Public: 0,
}

// describe puts the effects into the record.
func describe(r *audit.Record, effects []venue.Effect) {
	strongest := effects[0].Operation
	r.Effects = make([]audit.Effect, len(effects))
	for i := range effects {
		e := &effects[i]
		if strength[e.Operation] > strength[strongest] {
			strongest = e.Operation
		}
		r.Effects[i] = audit.Effect{
			Operation: string(e.Operation), Symbol: e.Symbol, Side: e.Side, Type: e.Type,
			Quantity: e.Quantity, QuoteQuantity: e.QuoteQuantity, Price: e.Price, ClientOrderID: e.ClientOrderID,
			Asset: e.Asset, Network: e.Network, Address: e.Address, Tag: e.Tag,
		}
	}
	r.Operation = string(strongest)
}

// Refuse records a request that could not even be read, and gives its refusal back.
func (a *Agent) Refuse(who *caller.Caller, ask *Ask, err error) error {
	refusal := fault.From(err)
	record := begin(who, ask, a.now())
	s := a.setup.Load()
	found, err := s.match(who)
	if err == nil {
		record.Caller = found.Name
	}
	record.Operation = string(venue.Unknown)
	a.appendDenial(&record, refusal)
	s.counters.count(found, nil, venue.Unknown, metrics.Denied, refusal.Reason)
	return refusal
}

// refuse records why a request ended: as its decision, or where it was allowed
// before, as the outcome of that.
func (p *pass) refuse(refusal *fault.Error) {
	if p.recorded {
		p.agent.appendOutcome(&p.record, p.answer.Record, refusal)
		p.count(metrics.Failed, refusal.Reason)
		return
	}
	p.agent.appendDenial(&p.record, refusal)
	p.count(metrics.Denied, refusal.Reason)
}

func (a *Agent) appendDenial(r *audit.Record, refusal *fault.Error) {
	r.Decision, r.Reason, r.Message = audit.Deny, string(refusal.Reason), refusal.Message
	if refusal.Rule != "" {
		r.Rule = refusal.Rule
	}
	if _, err := a.log.AppendDenial(r); err != nil {
		a.logger.Error("a denial is not in the log", "caller", r.Caller, "uid", r.UID, "key", r.Key, "reason", r.Reason, "error", err)
	}
}

// appendOutcome records that an allowed request came to nothing.
func (a *Agent) appendOutcome(decision *audit.Record, id uint64, refusal *fault.Error) {
	r := *decision
	r.Kind, r.Of, r.Time, r.Effects, r.Sent = audit.KindOutcome, id, a.now(), nil, sentNo
	if refusal.MaybeSent {
		r.Sent = sentUnknown
	}
	r.Reason, r.Message = string(refusal.Reason), refusal.Message
	a.append(&r)
}

func (a *Agent) append(r *audit.Record) {
	if _, err := a.log.Append(r, false); err != nil {
		a.logger.Error("an outcome is not in the log", "of", r.Of, "error", err)
	}
}

// outcome is the body of a venue's answer. Its end is recorded.
type outcome struct {
	io.ReadCloser
	agent  *Agent
	record audit.Record
	broken error // why the answer did not come whole
	once   sync.Once

	cut     context.CancelFunc // ends the request
	patient *time.Timer        // cuts it when the venue sends nothing for bodyTimeout
	stalled atomic.Bool        // it did
}

func (o *outcome) Read(p []byte) (int, error) {
	o.patient.Reset(bodyTimeout)
	defer o.patient.Stop() // a client that is slow to take it is the server's concern
	n, err := o.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		o.broken = err
	}
	return n, err
}

// Close records the outcome once: a body that broke off says why.
func (o *outcome) Close() error {
	err := o.ReadCloser.Close()
	o.cut()
	o.once.Do(func() {
		switch {
		case o.stalled.Load():
			o.record.Reason, o.record.Message = string(fault.VenueUnreachable), "the venue stopped sending its answer"
		case errors.Is(o.broken, context.Canceled):
			o.record.Reason, o.record.Message = string(fault.CallerGone), "the caller left before the answer's end"
		case o.broken != nil:
			o.record.Reason, o.record.Message = string(fault.VenueUnreachable), "the venue's answer broke off"
		}
		o.agent.append(&o.record)
	})
	return err
}

// newOutcome begins the outcome of a request whose answer has begun.
func (p *pass) newOutcome(response *http.Response, cut context.CancelFunc, sent time.Time) *outcome {
	r := p.record
	r.Kind, r.Of, r.Effects, r.Time = audit.KindOutcome, p.answer.Record, nil, p.agent.now()
	r.Status, r.Sent, r.DurationUS = response.StatusCode, sentYes, r.Time.Sub(sent).Microseconds()
	o := &outcome{ReadCloser: response.Body, agent: p.agent, record: r, cut: cut}
	o.patient = time.AfterFunc(bodyTimeout, func() {
		o.stalled.Store(true)
		cut()
	})
	o.patient.Stop()
	return o
}

// recordAdmin records an act of the agent itself, or with err that it failed.
func (a *Agent) recordAdmin(operation string, failed error) error {
	_, err := a.log.Append(a.adminRecord(nil, operation, "", failed), true)
	return err
}

// adminRecord is the record of an administrative act; a nil who is the agent itself.
func (a *Agent) adminRecord(who *caller.Caller, operation, key string, failed error) *audit.Record {
	r := &audit.Record{Kind: audit.KindAdmin, Time: a.now(), Caller: "sealsignd", Key: key, Operation: operation, Decision: audit.Allow, Rule: "admin.sock"}
	if who != nil {
		r.Caller, r.UID, r.PID, r.Unit = "operator", who.UID, who.PID, who.Unit
	}
	if failed != nil {
		refusal := fault.From(failed)
		r.Decision, r.Reason, r.Message = audit.Deny, string(refusal.Reason), refusal.Message
	}
	return r
}

// switched records that another version of a key signs from now on.
func (a *Agent) switched(key string, version int) {
	record := a.adminRecord(nil, "key.switch", key, nil)
	record.Version = version
	a.append(record)
}

// act does what gives power: it is recorded first, and not done without a record.
// The version that came of it is in a second record.
func (a *Agent) act(who *caller.Caller, operation, key string, do func() (version int, err error)) error {
	return a.actAs(a.adminRecord(who, operation, key, nil), do)
}

// actAs is act with a record that says more.
func (a *Agent) actAs(record *audit.Record, do func() (version int, err error)) error {
	id, err := a.log.Append(record, true)
	if err != nil {
		return err
	}
	version, err := do()
	record.Version = version
	if err != nil {
		refusal := fault.From(err)
		a.appendOutcome(record, id, refusal)
		return refusal
	}
	if version != 0 {
		record.Kind, record.Of, record.Time = audit.KindOutcome, id, a.now()
		a.append(record)
	}
	a.tell(record)
	return nil
}

// acts are those that a daemon's log tells of.
var acts = map[string]event.Event{
	"key.import": event.KeyImported, opImportWrapped: event.KeyImported, "key.resume": event.KeyResumed, "key.revoke": event.KeyRevoked,
	"key.suspend": event.KeySuspended, "key.suspend-to-cancels": event.KeySuspended, "store.recover": event.StoreRecovered,
}

// tell puts an act that was done into the daemon's log.
func (a *Agent) tell(act *audit.Record) {
	what, told := acts[act.Operation]
	if !told {
		return
	}
	fields := []any{event.Key, what, "operation", act.Operation, "caller", act.Caller, "uid", act.UID}
	if act.Key != "" {
		fields = append(fields, "key", act.Key)
	}
	if act.Version != 0 {
		fields = append(fields, "version", act.Version)
	}
	a.logger.Info("an administrative act", fields...)
}

// acted records what takes power away: it is done by then, and stays done where
// the log can't take the record. The error says both.
func (a *Agent) acted(record *audit.Record, failed error) error {
	_, err := a.log.Append(record, true)
	if failed == nil {
		a.tell(record)
	}
	switch {
	case failed != nil:
		return failed
	case err != nil:
		refusal := fault.From(err)
		return fault.New(refusal.Reason, "%s of %s is in force, and could not be recorded: %s", record.Operation, orAll(record.Key), refusal.Message).
			WithHint("%s", refusal.Hint).Because(err)
	}
	return nil
}

func orAll(key string) string {
	if key == "" {
		return "all keys"
	}
	return "key " + key
}
