package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

func set[T comparable](members ...T) map[T]bool {
	s := make(map[T]bool, len(members))
	for _, m := range members {
		s[m] = true
	}
	return s
}

// maker is the role that the tests start from: it trades on one key.
func maker(edits ...func(*Role)) *Role {
	r := &Role{
		Name:    "maker",
		Keys:    set("main"),
		Allow:   set(venue.Read, venue.Trade, venue.Cancel),
		Release: Never,
	}
	for _, edit := range edits {
		edit(r)
	}
	return r
}

func allows(ops ...venue.Operation) func(*Role) { return func(r *Role) { r.Allow = set(ops...) } }
func line(method, path string) func(*Role) {
	return func(r *Role) { r.Lines = set(Line{method, path}) }
}
func symbols(names ...string) func(*Role) { return func(r *Role) { r.Symbols = set(names...) } }
func releases(level Releases) func(*Role) { return func(r *Role) { r.Release = level } }
func named(name string) func(*Role)       { return func(r *Role) { r.Name = name } }
func keys(names ...string) func(*Role)    { return func(r *Role) { r.Keys = set(names...) } }
func rate(n int, per time.Duration) func(*Role) {
	return func(r *Role) { r.Rate = Rate{n, per} }
}

func trade(symbol string) venue.Effect {
	return venue.Effect{Operation: venue.Trade, Symbol: symbol}
}

func does(ops ...venue.Operation) []venue.Effect {
	effects := make([]venue.Effect, len(ops))
	for i, op := range ops {
		effects[i] = venue.Effect{Operation: op}
	}
	return effects
}

func session(grants ...venue.Operation) []venue.Effect {
	return []venue.Effect{{Operation: venue.Session, Grants: grants}}
}

var (
	cancelAll = []venue.Effect{{Operation: venue.Cancel, ExactLine: true}}
	boundOnce = venue.Binding{Once: "nonce"}
)

// A case is refused with reason and rule, or granted where reason is empty.
type decideCase struct {
	name    string
	roles   []*Role
	mode    Mode // forward where empty
	effects []venue.Effect
	binding venue.Binding
	reason  fault.Reason
	rule    string
}

func TestDecide(t *testing.T) {
	for _, test := range []decideCase{
		{name: "no role", effects: does(venue.Read), reason: fault.KeyNotGranted, rule: "callers"},
		{name: "another key", roles: []*Role{maker(keys("other"))}, effects: does(venue.Read), reason: fault.KeyNotGranted, rule: "roles.maker.keys"},
		{name: "read", roles: []*Role{maker()}, effects: does(venue.Read), rule: "roles.maker.allow"},
		{name: "no effect", roles: []*Role{maker()}, reason: fault.OperationNotGranted, rule: "roles.maker.allow"},
		{name: "withdraw", roles: []*Role{maker()}, effects: does(venue.Withdraw), reason: fault.OperationNotGranted, rule: "roles.maker.allow"},
		{name: "a batch with one forbidden effect", roles: []*Role{maker()}, effects: does(venue.Trade, venue.Transfer, venue.Trade), reason: fault.OperationNotGranted, rule: "roles.maker.allow"},
		{name: "two roles don't add up", roles: []*Role{maker(allows(venue.Trade)), maker(named("reader"), allows(venue.Read))}, effects: does(venue.Trade, venue.Read), reason: fault.OperationNotGranted, rule: "roles.maker.allow"},
		{name: "the second role grants", roles: []*Role{maker(allows(venue.Read)), maker(named("trader"))}, effects: does(venue.Trade), rule: "roles.trader.allow"},
		{name: "the first of two that grant", roles: []*Role{maker(), maker(named("trader"))}, effects: does(venue.Trade), rule: "roles.maker.allow"},
		{name: "the refusal of the role that came furthest", roles: []*Role{maker(keys("other")), maker(named("second"), symbols("BTCUSDT")), maker(named("third"), allows(venue.Read))}, effects: []venue.Effect{trade("DOGEUSDT")}, reason: fault.SymbolNotGranted, rule: "roles.second.symbols"},

		{name: "unknown", roles: []*Role{maker(allows(venue.Unknown))}, effects: does(venue.Unknown), reason: fault.OperationNotGranted, rule: "roles.maker.allow"},
		{name: "unknown by its line", roles: []*Role{maker(line("POST", "/x"))}, effects: does(venue.Unknown), rule: "roles.maker.allow"},
		{name: "unknown by the line of another method", roles: []*Role{maker(line("GET", "/x"))}, effects: does(venue.Unknown), reason: fault.OperationNotGranted, rule: "roles.maker.allow"},
		{name: "a line doesn't grant a known operation", roles: []*Role{maker(line("POST", "/x"))}, effects: does(venue.Withdraw), reason: fault.OperationNotGranted, rule: "roles.maker.allow"},
		{name: "cancel-all", roles: []*Role{maker()}, effects: cancelAll, reason: fault.OperationNotGranted, rule: "roles.maker.allow"},
		{name: "cancel-all by its line", roles: []*Role{maker(line("POST", "/x"), symbols("BTCUSDT"))}, effects: cancelAll, rule: "roles.maker.allow"},

		{name: "a symbol of the role", roles: []*Role{maker(symbols("BTCUSDT"))}, effects: []venue.Effect{trade("BTCUSDT")}, rule: "roles.maker.allow"},
		{name: "a symbol in other letters", roles: []*Role{maker(symbols("BTCUSDT"))}, effects: []venue.Effect{trade("btcusdt")}, reason: fault.SymbolNotGranted, rule: "roles.maker.symbols"},
		{name: "a batch with one other symbol", roles: []*Role{maker(symbols("BTCUSDT"))}, effects: []venue.Effect{trade("BTCUSDT"), trade("DOGEUSDT")}, reason: fault.SymbolNotGranted, rule: "roles.maker.symbols"},
		{name: "a trade without a symbol", roles: []*Role{maker(symbols("BTCUSDT"))}, effects: does(venue.Trade), reason: fault.SymbolNotGranted, rule: "roles.maker.symbols"},
		{name: "a trade that calls itself named", roles: []*Role{maker(symbols("BTCUSDT"))}, effects: []venue.Effect{{Operation: venue.Trade, Named: true}}, reason: fault.SymbolNotGranted, rule: "roles.maker.symbols"},
		{name: "settings without a symbol", roles: []*Role{maker(allows(venue.Settings), symbols("BTCUSDT"))}, effects: does(venue.Settings), reason: fault.SymbolNotGranted, rule: "roles.maker.symbols"},
		{name: "a cancel of named orders", roles: []*Role{maker(symbols("BTCUSDT"))}, effects: []venue.Effect{{Operation: venue.Cancel, Named: true}}, rule: "roles.maker.allow"},
		{name: "a cancel of named orders of another symbol", roles: []*Role{maker(symbols("BTCUSDT"))}, effects: []venue.Effect{{Operation: venue.Cancel, Named: true, Symbol: "DOGEUSDT"}}, reason: fault.SymbolNotGranted, rule: "roles.maker.symbols"},
		{name: "a read of another symbol", roles: []*Role{maker(symbols("BTCUSDT"))}, effects: []venue.Effect{{Operation: venue.Read, Symbol: "DOGEUSDT"}}, rule: "roles.maker.allow"},

		{name: "public", roles: []*Role{maker(allows(), symbols("BTCUSDT"), rate(1, time.Second))}, effects: does(venue.Public), rule: "roles.maker.keys"},
		{name: "public of another key", roles: []*Role{maker(keys("other"))}, effects: does(venue.Public), reason: fault.KeyNotGranted, rule: "roles.maker.keys"},
		{name: "public, released", roles: []*Role{maker(allows())}, mode: Release, effects: does(venue.Public), rule: "roles.maker.keys"},
	} {
		t.Run(test.name, test.run)
	}
}

func TestDecideRelease(t *testing.T) {
	perSecond := rate(50, time.Second)
	for _, test := range []decideCase{
		{name: "never", roles: []*Role{maker()}, binding: boundOnce, reason: fault.ReleaseNotGranted, rule: "roles.maker.release"},
		{name: "a level this code doesn't know", roles: []*Role{maker(releases("always"))}, binding: boundOnce, reason: fault.ReleaseNotGranted, rule: "roles.maker.release"},
		{name: "bound", roles: []*Role{maker(releases(Bound))}, rule: "roles.maker.allow"},
		{name: "bound, loose", roles: []*Role{maker(releases(Bound))}, binding: venue.Binding{Loose: "the path", Once: "nonce"}, reason: fault.ReleaseNotBound, rule: "roles.maker.release"},
		{name: "bound, a trade under a rate", roles: []*Role{maker(releases(Bound), perSecond)}, reason: fault.ReleaseNotBound, rule: "roles.maker.release"},
		{name: "bound, a trade under a rate, once", roles: []*Role{maker(releases(Bound), perSecond)}, binding: boundOnce, rule: "roles.maker.allow"},
		{name: "bound, a transfer under a rate", roles: []*Role{maker(releases(Bound), perSecond, allows(venue.Transfer))}, effects: does(venue.Transfer), reason: fault.ReleaseNotBound, rule: "roles.maker.release"},
		{name: "bound, unknown by its line under a rate", roles: []*Role{maker(releases(Bound), perSecond, line("POST", "/x"))}, effects: does(venue.Unknown), reason: fault.ReleaseNotBound, rule: "roles.maker.release"},
		{name: "bound, a cancel under a rate", roles: []*Role{maker(releases(Bound), perSecond)}, effects: does(venue.Cancel), rule: "roles.maker.allow"},
		{name: "bound, a read under a rate", roles: []*Role{maker(releases(Bound), perSecond)}, effects: does(venue.Read), rule: "roles.maker.allow"},
		{name: "unbound, loose", roles: []*Role{maker(releases(Unbound), perSecond)}, binding: venue.Binding{Loose: "the path"}, rule: "roles.maker.allow"},
		{name: "unbound, fits a withdrawal", roles: []*Role{maker(releases(Unbound))}, binding: venue.Binding{Loose: "the path", FundMoving: "asset, amount, address"}, reason: fault.ReleaseNotBound, rule: "roles.maker.release"},
		{name: "unbound with symbols", roles: []*Role{maker(releases(Unbound), symbols("BTCUSDT"))}, effects: []venue.Effect{trade("BTCUSDT")}, reason: fault.ReleaseNotBound, rule: "roles.maker.release"},
		{name: "the credential itself", roles: []*Role{maker(releases(Unbound))}, effects: does(venue.Read), binding: venue.Binding{Never: true}, reason: fault.ReleaseNotBound, rule: "roles.maker.release"},
	} {
		test.mode = Release
		if test.effects == nil {
			test.effects = does(venue.Trade)
		}
		t.Run(test.name, test.run)
	}
}

func TestDecideSession(t *testing.T) {
	for _, mode := range []Mode{Forward, Release, Login} {
		for _, test := range []decideCase{
			{name: "all that it grants", roles: []*Role{maker(releases(Bound))}, effects: session(venue.Read, venue.Trade), rule: "roles.maker.allow"},
			{name: "never", roles: []*Role{maker()}, effects: session(venue.Read), reason: fault.ReleaseNotGranted, rule: "roles.maker.release"},
			{name: "more than the role", roles: []*Role{maker(releases(Bound), allows(venue.Read, venue.Session))}, effects: session(venue.Read, venue.Trade), reason: fault.OperationNotGranted, rule: "roles.maker.allow"},
			{name: "with symbols", roles: []*Role{maker(releases(Bound), symbols("BTCUSDT"))}, effects: session(venue.Read), reason: fault.SymbolNotGranted, rule: "roles.maker.symbols"},
			{name: "under a rate", roles: []*Role{maker(releases(Bound), rate(1, time.Second))}, effects: session(venue.Read), reason: fault.OperationNotGranted, rule: "roles.maker.rate"},
			{name: "unsaid rights", roles: []*Role{maker(releases(Bound))}, effects: session(), reason: fault.OperationNotGranted, rule: "roles.maker.allow"},
			{name: "unsaid rights, sessions allowed", roles: []*Role{maker(releases(Bound), allows(venue.Session))}, effects: session(), rule: "roles.maker.allow"},
		} {
			test.mode = mode
			t.Run(string(mode)+"/"+test.name, test.run)
		}
	}
}

func (test decideCase) run(t *testing.T) {
	mode := test.mode
	if mode == "" {
		mode = Forward
	}
	d, err := Decide(&Input{Roles: test.roles, Key: "main", Mode: mode, Method: "POST", Path: "/x", Effects: test.effects, Binding: test.binding})
	if test.reason == "" {
		if err != nil || d.Rule != test.rule {
			t.Fatalf("got rule %q, %v; want it granted by %q", d.Rule, err, test.rule)
		}
		return
	}
	refusal, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("granted by %q, want %s", d.Rule, test.reason)
	}
	if refusal.Reason != test.reason || refusal.Rule != test.rule {
		t.Errorf("got %s by %q (%s), want %s by %q", refusal.Reason, refusal.Rule, refusal.Message, test.reason, test.rule)
	}
	if test.rule != "callers" && !strings.Contains(refusal.Message, "roles.") {
		t.Errorf("the message doesn't name the rule: %s", refusal.Message)
	}
	if d != (Decision{}) {
		t.Errorf("a refusal came with a decision: %+v", d)
	}
}

func TestDecideChargesTheRate(t *testing.T) {
	role := maker(rate(50, time.Second))
	d, err := Decide(&Input{Roles: []*Role{role}, Key: "main", Mode: Forward, Effects: does(venue.Read)})
	if want := (Charge{Name: "roles.maker.rate/main", Count: 50, Per: time.Second}); err != nil || d.Charge != want {
		t.Errorf("got %+v, %v; want %+v", d.Charge, err, want)
	}
	d, err = Decide(&Input{Roles: []*Role{role}, Key: "main", Mode: Forward, Effects: does(venue.Public)})
	if err != nil || d.Charge != (Charge{}) {
		t.Errorf("a public request is charged %+v, %v", d.Charge, err)
	}
}

func TestHintIsTheEdit(t *testing.T) {
	for _, test := range []struct {
		role    *Role
		effects []venue.Effect
		hint    string
	}{
		{maker(keys("other")), does(venue.Read), `add "main" to roles.maker.keys`},
		{maker(), does(venue.Withdraw), `add "withdraw" to roles.maker.allow`},
		{maker(), does(venue.Unknown), `add "POST /x" to roles.maker.allow`},
		{maker(symbols("BTCUSDT")), []venue.Effect{trade("DOGEUSDT")}, `add "DOGEUSDT" to roles.maker.symbols`},
	} {
		_, err := Decide(&Input{Roles: []*Role{test.role}, Key: "main", Mode: Forward, Method: "POST", Path: "/x", Effects: test.effects})
		if got := fault.From(err).Hint; got != test.hint {
			t.Errorf("got hint %q, want %q", got, test.hint)
		}
	}
}

func TestRefusalBoundsTheRequestsText(t *testing.T) {
	_, err := Decide(&Input{Roles: []*Role{maker(symbols("BTCUSDT"))}, Key: "main", Mode: Forward,
		Effects: []venue.Effect{trade(strings.Repeat("\x1b[31mé", 10_000))}})
	if message := fault.From(err).Message; len(message) > 6*maxQuoted || strings.Contains(message, "\x1b") {
		t.Errorf("the message repeats the request's text: %.300q", message)
	}
}
