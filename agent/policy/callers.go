package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sealsign/sealsign/internal/fault"
)

// Facts is what the kernel says about the process that called.
type Facts struct {
	UID    uint32
	Groups []uint32 // the primary one included
	Unit   string   // of systemd, or empty
	// Exe and SHA256 read the path and the hash (hex) of the running program.
	// They are called only when a caller is named by them.
	Exe, SHA256 func() (string, error)
}

// Caller is who may call: a process of which all the given facts hold.
type Caller struct {
	Name   string
	UID    *uint32
	GID    *uint32 // one of the process's groups
	Unit   string
	Exe    string
	SHA256 string // lower-case hex
	Roles  []*Role
}

// Callers are all that the config names.
type Callers []*Caller

// Match finds the caller that the facts describe: the one with the most facts,
// all of which hold. None, or two with as many, is CALLER_UNKNOWN; so is a
// program that can't be read where a caller named by it might be the one.
func (callers Callers) Match(facts *Facts) (*Caller, error) {
	var best *Caller
	var tied []string
	most := 0
	for _, c := range callers {
		holds, err := c.holds(facts)
		if err != nil {
			return nil, unreadable(c, facts, err)
		}
		if !holds {
			continue
		}
		switch n := c.facts(); {
		case n > most:
			best, most, tied = c, n, nil
		case n == most:
			tied = append(tied, c.Name)
		}
	}
	switch {
	case best == nil:
		return nil, nobody(facts)
	case tied != nil:
		names := strings.Join(append([]string{best.Name}, tied...), ", ")
		return nil, fault.New(fault.CallerUnknown, "the process (%s) is as much one caller as another: %s", facts, names).
			WithRule("callers").
			WithHint("give one of these callers a further fact, such as unit, so that it is the closer match")
	}
	return best, nil
}

// facts is how many facts name the caller.
func (c *Caller) facts() int {
	n := 0
	for _, given := range []bool{c.UID != nil, c.GID != nil, c.Unit != "", c.Exe != "", c.SHA256 != ""} {
		if given {
			n++
		}
	}
	return n
}

// holds says whether all of the caller's facts hold. The program is read last,
// and only where everything else fits.
func (c *Caller) holds(f *Facts) (bool, error) {
	switch {
	case c.UID == nil && c.GID == nil && c.Unit == "": // exe and sha256 don't stand alone
		return false, nil
	case c.UID != nil && *c.UID != f.UID:
		return false, nil
	case c.Unit != "" && c.Unit != f.Unit:
		return false, nil
	case c.GID != nil && !slices.Contains(f.Groups, *c.GID):
		return false, nil
	}
	if holds, err := reads(c.Exe, f.Exe); !holds || err != nil {
		return false, err
	}
	return reads(c.SHA256, f.SHA256)
}

func reads(want string, read func() (string, error)) (bool, error) {
	if want == "" {
		return true, nil
	}
	got, err := read()
	return got == want, err
}

func nobody(f *Facts) error {
	edit := fmt.Sprintf("uid = %d", f.UID)
	if f.Unit != "" {
		edit += fmt.Sprintf(" and unit = %q", f.Unit)
	}
	return fault.New(fault.CallerUnknown, "no caller of the config is this process (%s)", f).
		WithRule("callers").
		WithHint("add [callers.NAME] with %s and its roles to the config", edit)
}

// unreadable keeps the reader's own hint, which says what the daemon lacks.
func unreadable(c *Caller, f *Facts, err error) error {
	cause := fault.From(err)
	return fault.New(fault.CallerUnknown, "the process (%s) may be caller %s, but its program can't be read", f, c.Name).
		WithRule("callers."+c.Name).
		WithHint("%s", cause.Hint).
		Because(err)
}

// String is what was seen, for messages: uid and unit.
func (f *Facts) String() string {
	if f.Unit == "" {
		return fmt.Sprintf("uid %d, no systemd unit", f.UID)
	}
	return fmt.Sprintf("uid %d, unit %s", f.UID, f.Unit)
}
