package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"time"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/agent/ledger"
	"github.com/sealsign/sealsign/agent/metrics"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// errDefect is what a request met that no step refused and none finished.
var errDefect = errors.New("a step of the request's way panicked")

// pass is one request on its way through Do: what each step has found.
type pass struct {
	agent *Agent
	setup *setup // the config in force when the request came
	who   *caller.Caller
	ask   *Ask

	caller   *policy.Caller
	key      *key
	several  bool // the caller has other keys at this host too
	call     *venue.Call
	effects  []venue.Effect
	public   bool // goes out without credential, nonce or key
	charge   ledger.Charge
	slot     *slot // held while a request of a nonce key is in flight
	use      *keyring.Use
	access   keyring.Access
	draft    *venue.Draft
	loginURL string
	answer   Answer
	record   audit.Record
	recorded bool // the decision is in the log

	began, since time.Time // the request, its present step
}

func (a *Agent) enter(who *caller.Caller, ask *Ask) *pass {
	now := time.Now()
	return &pass{agent: a, setup: a.setup.Load(), who: who, ask: ask, record: begin(who, ask, a.now()), began: now, since: now}
}

// identify finds the caller's roles and the key that it asks for.
func (p *pass) identify() (err error) {
	if p.who == p.agent.self {
		p.caller = itself(p.ask.Key)
	} else if p.caller, err = p.setup.match(p.who); err != nil {
		return err
	}
	p.record.Caller = p.caller.Name
	if p.key, p.several, err = p.setup.choose(p.caller, p.ask); err != nil {
		return err
	}
	p.record.Key = p.key.name
	return nil
}

// classify finds what the request would do at the venue.
func (p *pass) classify() (err error) {
	if p.ask.Mode == policy.Login {
		var session venue.Effect
		_, session, p.loginURL, err = p.key.venue.Login(p.ask.Channel, venue.Access{Algorithm: p.key.algorithm}, venue.Stamp{}, p.key.environment)
		p.effects = []venue.Effect{session}
		if at, parseErr := url.Parse(p.loginURL); parseErr == nil {
			p.record.Host, p.record.Path = at.Host, at.Path
		}
	} else if p.call, err = p.key.venue.Classify(&p.ask.Request); err == nil {
		p.effects, p.public = p.call.Effects, p.call.Public()
	}
	if err != nil {
		return err
	}
	describe(&p.record, p.effects)
	if p.several && !p.public {
		return fault.New(fault.BadRequest, "the caller has several keys at %s", p.ask.Request.Host).
			WithHint("name one: with the header Sealsign-Key, or as the path's first part")
	}
	return nil
}

// decide asks the policy, and takes from the limits what the request costs.
func (p *pass) decide() error {
	decision, err := p.judge()
	if err != nil || decision.Charge.Count == 0 {
		return err
	}
	charge := ledger.Charge(decision.Charge)
	if err := p.agent.ledger.Reserve(p.agent.now(), charge); err != nil {
		return err
	}
	p.charge = charge
	return nil
}

func (p *pass) judge() (policy.Decision, error) {
	in := policy.Input{
		Roles: p.caller.Roles, Key: p.key.name, Mode: p.ask.Mode,
		Method: p.ask.Request.Method, Path: p.ask.Request.Path, Effects: p.effects,
	}
	if p.call != nil {
		in.Binding = p.call.Binding
	}
	decision, err := policy.Decide(&in)
	p.record.Rule = decision.Rule
	if err == nil && p.who == p.agent.self {
		p.record.Rule = "keys." + p.key.name + ".probe"
	}
	return decision, err
}

// render makes the bytes that the venue wants signed. A nonce is drawn only
// when the request's turn has come.
func (p *pass) render(ctx context.Context) (err error) {
	request, v := &p.ask.Request, p.key.venue
	if p.public {
		p.draft, err = v.Render(request, p.call, venue.Access{}, venue.Stamp{}, p.key.environment)
		return err
	}
	cancel := cancels(p.effects)
	if p.use = p.ask.trial; p.use == nil {
		if p.use, err = p.agent.ring.Use(ctx, p.key.name, cancel); err != nil {
			return err
		}
	}
	if err = p.use.SealedFor(p.key.venue.Name(), request.Host, p.key.ca); err != nil {
		return err // a version that an edit of the config has just brought
	}
	if err = p.use.Access(&p.access); err != nil {
		return err
	}
	if v.Nonce() && p.ask.Mode == policy.Forward {
		slot := p.agent.slots.of(p.key.name)
		if err = slot.take(ctx, cancel); err != nil {
			return fault.New(fault.CallerGone, "the caller left before the key's turn came").Because(err)
		}
		p.slot = slot
	}
	stamp, err := p.stamp()
	if err != nil {
		return err
	}
	access := venue.Access{APIKey: p.access.APIKey, Passphrase: p.access.Passphrase, Algorithm: p.key.algorithm}
	if p.ask.Mode == policy.Login {
		p.draft, _, _, err = v.Login(p.ask.Channel, access, stamp, p.key.environment)
		return err
	}
	p.draft, err = v.Render(request, p.call, access, stamp, p.key.environment)
	return err
}

// stamp draws what makes the request unlike the next.
func (p *pass) stamp() (stamp venue.Stamp, err error) {
	host := p.ask.Request.Host
	if p.ask.Mode == policy.Login {
		host = p.key.loginClock
	}
	if stamp.Time, err = p.agent.clocks.at(host, p.key.clocks[host]); err != nil {
		return stamp, err
	}
	if p.key.venue.Nonce() {
		if stamp.Nonce, err = p.agent.ledger.Nonce(p.key.name, stamp.Time); err != nil {
			return stamp, err
		}
	}
	_, _ = rand.Read(stamp.Random[:]) // it never fails
	return stamp, nil
}

// sign has the keyring sign the message and puts the signature in its place.
func (p *pass) sign(ctx context.Context) (err error) {
	var signature []byte
	if p.draft.Message != nil {
		var room [64]byte // enough for all but RSA
		if signature, err = p.use.Sign(ctx, room[:0], p.draft.Message); err != nil {
			return err
		}
	}
	if p.use != nil {
		p.answer.Version = p.use.Version()
		p.record.Version = p.answer.Version
	}
	if p.ask.Mode == policy.Login {
		p.answer.Message, p.answer.LoginURL = p.draft.FinishLogin(signature), p.loginURL
		return nil
	}
	p.answer.Signed = p.draft.Finish(signature)
	return nil
}

// write records the decision. What moves money or rights is on disk before it
// leaves, however the log is synced.
func (p *pass) write() (err error) {
	p.record.Decision = audit.Allow
	p.answer.Record, err = p.agent.log.Append(&p.record, mayMoveFunds(p.effects))
	p.recorded = err == nil
	return err
}

// check makes sure, before anything leaves, that the process is still the one
// that was identified, that the config still grants the request, and that the key
// may still be used.
func (p *pass) check() error {
	if err := p.who.Alive(); err != nil {
		return err
	}
	if now := p.agent.setup.Load(); now != p.setup {
		if err := p.judgeAgain(now); err != nil {
			return err
		}
	}
	if p.use == nil {
		return nil
	}
	return p.use.Valid()
}

// judgeAgain judges a request by a config that came into force after it was judged:
// it may have waited long for its turn, or for the venue.
func (p *pass) judgeAgain(now *setup) error {
	again := &pass{agent: p.agent, setup: now, who: p.who, ask: p.ask, record: begin(p.who, p.ask, p.record.Time)}
	if err := again.identify(); err != nil {
		return err
	}
	if !again.key.goesWhere(p.key) {
		return fault.New(fault.KeyRebindRequired, "key %s was moved to another venue by an edit of the config", p.key.name).
			WithHint("send the request again")
	}
	if err := again.classify(); err != nil {
		return err
	}
	_, err := again.judge()
	return err
}

// release gives the caller what was signed.
func (p *pass) release() *Answer {
	return &p.answer
}

// forward sends the request and gives the caller the venue's answer, whose end
// is recorded as the outcome.
func (p *pass) forward(ctx context.Context) (*Answer, error) {
	signed := p.answer.Signed
	signed.Header = p.key.outgoing(signed.Header, p.ask.Header)
	sent := p.agent.now()
	ctx, cut := context.WithCancel(ctx)
	response, err := send(ctx, p.key.transport, signed, p.check) //nolint:bodyclose // the caller closes it
	signed.Wipe()
	if err != nil {
		cut()
		return nil, err
	}
	p.answer.Response = response
	response.Body = p.newOutcome(response, cut, sent)
	return &p.answer, nil
}

// leave ends the way: it frees what the request held, and where it was refused
// gives back what it was charged and records the refusal.
func (p *pass) leave(err error) error {
	if p.slot != nil {
		p.slot.free()
	}
	p.access.Wipe()
	if err == nil {
		p.count(metrics.Allowed, "")
		return nil
	}
	if p.answer.Signed != nil {
		p.answer.Signed.Wipe()
	}
	clear(p.answer.Message)
	refusal := fault.From(err)
	if refusal.Reason == fault.InternalError {
		p.agent.logger.Error("a request failed", "error", err)
	}
	if refusal.Reason == fault.KeyExpired {
		p.agent.keepTime() // vouched for, so that what was refused once stays refused
	}
	if p.charge.Count > 0 && !refusal.MaybeSent {
		p.agent.ledger.Refund(p.agent.now(), p.charge)
	}
	p.refuse(refusal)
	return refusal
}

func cancels(effects []venue.Effect) bool {
	for i := range effects {
		if effects[i].Operation != venue.Cancel {
			return false
		}
	}
	return true
}

// mayMoveFunds: nobody knows what an unknown one does.
func mayMoveFunds(effects []venue.Effect) bool {
	for i := range effects {
		switch effects[i].Operation {
		case venue.Withdraw, venue.Transfer, venue.Admin, venue.Unknown:
			return true
		}
	}
	return false
}
