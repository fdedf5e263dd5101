package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/internal/fault"
)

// warn adds what the operator should know of a configuration that is good.
func (l *loader) warn(files []file) {
	for _, f := range append(files, l.others...) {
		if f.public {
			l.warning(f.path, "every user of this host may change it; chmod o-w")
		}
	}
	l.warnOfSharedUIDs()
	for _, name := range slices.Sorted(maps.Keys(l.config.Roles)) {
		l.warnOfRelease(l.config.Roles[name])
	}
	l.warnOfNonces()
}

// warnOfSharedUIDs: processes of one user can take each other over, whatever
// their units, so the roles of all are the roles of each.
func (l *loader) warnOfSharedUIDs() {
	sharing := make(map[uint32][]*policy.Caller)
	for _, c := range l.config.Callers {
		if c.UID != nil {
			sharing[*c.UID] = append(sharing[*c.UID], c)
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(sharing)) {
		callers := sharing[uid]
		if slices.ContainsFunc(callers[1:], func(c *policy.Caller) bool { return !sameRoles(c, callers[0]) }) {
			l.warning("callers", "%s share uid %d and differ in roles: processes of one user can act as each other; give each a user of its own", who(callers), uid)
		}
	}
}

func sameRoles(a, b *policy.Caller) bool {
	byName := func(a, b *policy.Role) int { return cmp.Compare(a.Name, b.Name) }
	return slices.Equal(slices.SortedFunc(slices.Values(a.Roles), byName), slices.SortedFunc(slices.Values(b.Roles), byName))
}

// warnOfRelease says what a role's release can't do, and what it gives away.
func (l *loader) warnOfRelease(r *policy.Role) {
	if r.Release == policy.Never {
		return
	}
	var all remarks
	for _, name := range slices.Sorted(maps.Keys(r.Keys)) {
		k := l.config.Keys[name]
		b, ok := k.Venue.Least(k.Environment)
		venueName := k.Venue.Name()
		switch {
		case !ok:
		case b.Never:
			all.add(name, fmt.Sprintf("%q never serves ", r.Release), ": every request of "+venueName+" carries the credential itself; forward them")
			continue
		case r.Release == policy.Bound && b.Loose != "":
			all.add(name, fmt.Sprintf("%q never serves ", r.Release), ": at "+venueName+" "+b.Loose+"; forward its requests")
			continue
		case r.Release == policy.Unbound && b.Loose != "":
			all.add(name, fmt.Sprintf("%q lets %s turn one signed request of ", r.Release, who(l.holders(r))),
				fmt.Sprintf(" into others: at %s %s; whatever its parameters fit there can be sent, as often as %s takes it, "+
					"whether the role allows it or not, but for known ways to move funds", venueName, b.Loose, venueName))
		}
		if b.Passphrase {
			all.add(name, fmt.Sprintf("%q shows the passphrase of ", r.Release),
				fmt.Sprintf(" to %s: it is part of every signed request of %s", who(l.holders(r)), venueName))
		}
	}
	for _, one := range all.order {
		l.warning("roles."+r.Name+".release", "%s%s%s", one.before, keyNames(all.keys[one]), one.after)
	}
}

// remarks are what is said of keys, each once for all keys that it is true of.
type remarks struct {
	order []remark
	keys  map[remark][]string
}

// remark is the text around the names of keys.
type remark struct{ before, after string }

func (r *remarks) add(key, before, after string) {
	one := remark{before, after}
	if r.keys == nil {
		r.keys = make(map[remark][]string)
	}
	if r.keys[one] == nil {
		r.order = append(r.order, one)
	}
	r.keys[one] = append(r.keys[one], key)
}

// mostNamed is how many keys a warning names: it is one line of the daemon's log.
const mostNamed = 100

func keyNames(keys []string) string {
	switch {
	case len(keys) == 1:
		return "key " + keys[0]
	case len(keys) > mostNamed:
		return fmt.Sprintf("keys %s and %d more", strings.Join(keys[:mostNamed], ", "), len(keys)-mostNamed)
	}
	return "keys " + strings.Join(keys, ", ")
}

// holders are the callers that have the role.
func (l *loader) holders(r *policy.Role) []*policy.Caller {
	var callers []*policy.Caller
	for _, c := range l.config.Callers {
		if slices.Contains(c.Roles, r) {
			callers = append(callers, c)
		}
	}
	return callers
}

// warnOfNonces: a venue with nonces refuses a request that arrives after a later
// one. The agent keeps the order of what it sends itself, and of nothing else.
func (l *loader) warnOfNonces() {
	released, forwarded := make(map[string][]*policy.Caller), make(map[string][]*policy.Caller)
	for _, c := range l.config.Callers {
		keys := make(map[string]bool) // whether it is released to c
		for _, r := range c.Roles {
			for key := range r.Keys {
				keys[key] = keys[key] || r.Release != policy.Never
			}
		}
		for key, isReleased := range keys {
			if isReleased {
				released[key] = append(released[key], c)
			} else {
				forwarded[key] = append(forwarded[key], c)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(released)) {
		if !l.config.Keys[name].Venue.Nonce() {
			continue
		}
		released, forwarded := released[name], forwarded[name]
		switch {
		case len(released) > 1:
			l.warning("keys."+name, "is released to %s: the venue refuses a nonce that comes after a later one, and their requests overtake each other; forward them, or give each a key", who(released))
		case len(released) == 1 && len(forwarded) > 0:
			l.warning("keys."+name, "is released to %s and forwarded for %s: the venue refuses a nonce that comes after a later one, and their requests overtake each other; forward all, or give each a key", who(released), who(forwarded))
		}
	}
}

// message is what a fault says, without its reason.
func message(err error) string { return fault.From(err).Message }
