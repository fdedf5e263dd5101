package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

func unread() (string, error) { panic("the program is read without need") }

func is(text string) func() (string, error) {
	return func() (string, error) { return text, nil }
}

func TestMatch(t *testing.T) {
	uid := func(n uint32) *uint32 { return &n }
	alpha := &Caller{Name: "alpha", UID: uid(1001)}
	alphaUnit := &Caller{Name: "alpha-unit", UID: uid(1001), Unit: "bot.service"}
	traders := &Caller{Name: "traders", GID: uid(2000)}
	pinned := &Caller{Name: "pinned", UID: uid(1001), Exe: "/usr/bin/bot"}
	hashed := &Caller{Name: "hashed", UID: uid(1001), Exe: "/usr/bin/bot", SHA256: "ab"}

	for _, test := range []struct {
		name    string
		callers Callers
		facts   Facts
		want    string // empty: unknown
	}{
		{"by uid", Callers{alpha}, Facts{UID: 1001, Exe: unread}, "alpha"},
		{"another uid", Callers{alpha}, Facts{UID: 1002, Exe: unread}, ""},
		{"root is nobody special", Callers{alpha}, Facts{UID: 0}, ""},
		{"the closer one", Callers{alpha, alphaUnit}, Facts{UID: 1001, Unit: "bot.service"}, "alpha-unit"},
		{"the closer one, whatever the order", Callers{alphaUnit, alpha}, Facts{UID: 1001, Unit: "bot.service"}, "alpha-unit"},
		{"not in the unit", Callers{alpha, alphaUnit}, Facts{UID: 1001, Unit: "other.service"}, "alpha"},
		{"the unit of another uid", Callers{alphaUnit}, Facts{UID: 1002, Unit: "bot.service"}, ""},
		{"by group", Callers{traders}, Facts{UID: 7, Groups: []uint32{7, 2000}}, "traders"},
		{"not in the group", Callers{traders}, Facts{UID: 7, Groups: []uint32{7}}, ""},
		{"a tie", Callers{alpha, traders}, Facts{UID: 1001, Groups: []uint32{2000}}, ""},
		{"a tie below the closest", Callers{alpha, traders, alphaUnit}, Facts{UID: 1001, Groups: []uint32{2000}, Unit: "bot.service"}, "alpha-unit"},
		{"by program", Callers{pinned}, Facts{UID: 1001, Exe: is("/usr/bin/bot"), SHA256: unread}, "pinned"},
		{"another program", Callers{alpha, pinned}, Facts{UID: 1001, Exe: is("/usr/bin/bot (deleted)")}, "alpha"},
		{"the program is read only where the rest fits", Callers{pinned}, Facts{UID: 1002, Exe: unread}, ""},
		{"by hash", Callers{hashed, pinned}, Facts{UID: 1001, Exe: is("/usr/bin/bot"), SHA256: is("ab")}, "hashed"},
		{"another hash", Callers{hashed}, Facts{UID: 1001, Exe: is("/usr/bin/bot"), SHA256: is("cd")}, ""},
		{"a program alone is no caller", Callers{{Name: "x", Exe: "/usr/bin/bot"}}, Facts{UID: 1001, Exe: is("/usr/bin/bot")}, ""},
		{"no callers", nil, Facts{UID: 1001}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.callers.Match(&test.facts)
			switch {
			case test.want == "" && !errors.Is(err, fault.CallerUnknown):
				t.Errorf("got %v, %v; want CALLER_UNKNOWN", got, err)
			case test.want != "" && (err != nil || got.Name != test.want):
				t.Errorf("got %v, %v; want %s", got, err, test.want)
			}
		})
	}
}

func TestUnknownCallerSaysWhatWasSeen(t *testing.T) {
	_, err := Callers(nil).Match(&Facts{UID: 1001, Unit: "bot.service"})
	refusal := fault.From(err)
	for _, want := range []string{"1001", "bot.service"} {
		if !strings.Contains(refusal.Message, want) || !strings.Contains(refusal.Hint, want) {
			t.Errorf("%q or its hint %q doesn't say %s", refusal.Message, refusal.Hint, want)
		}
	}
}

// Where it can't be told whether a closer caller is the one, none is: it may
// have fewer rights than the other.
func TestUnreadableProgramIsUnknown(t *testing.T) {
	uid := uint32(1001)
	cause := fault.New(fault.CallerUnknown, "no").WithHint("grant CAP_SYS_PTRACE")
	callers := Callers{{Name: "alpha", UID: &uid}, {Name: "pinned", UID: &uid, Exe: "/usr/bin/bot"}}
	_, err := callers.Match(&Facts{UID: uid, Exe: func() (string, error) { return "", cause }})
	if !errors.Is(err, fault.CallerUnknown) || fault.From(err).Hint != cause.Hint {
		t.Errorf("got %v, hint %q", err, fault.From(err).Hint)
	}
}
