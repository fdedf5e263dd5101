package venue

import (
	"slices"
	"strings"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// loginLife is how long a login message is good for, where it says so itself.
const loginLife = 10 * time.Second

// login is one WebSocket login of a venue.
type login struct {
	channel    string
	message    template // what is signed
	frame      template // what the app sends, JSON
	grants     []Operation
	algorithms []Algorithm // empty: all of the venue's
}

// Login drafts the message that logs a WebSocket in. What it opens is a session,
// whose requests nobody signs or judges: the effect says what it can do. channel
// may be empty for the venue's first; url is where the message goes.
func (v *Venue) Login(channel string, access Access, stamp Stamp, env string) (d *Draft, effect Effect, url string, err error) {
	e := v.environment(env)
	if e == nil {
		return nil, Effect{}, "", fault.New(fault.BadRequest, "%s has no environment %s", v.name, env)
	}
	if len(v.logins) == 0 {
		return nil, Effect{}, "", bad("%s has no WebSocket login", v.name)
	}
	var names []string
	for i := range v.logins {
		if channel == "" || v.logins[i].channel == channel {
			return v.draftLogin(&v.logins[i], access, stamp, e)
		}
		names = append(names, v.logins[i].channel)
	}
	return nil, Effect{}, "", bad("%s has no login channel %s", v.name, quote(channel)).
		WithHint("it has %s", strings.Join(names, ", "))
}

func (v *Venue) draftLogin(l *login, access Access, stamp Stamp, e *environment) (*Draft, Effect, string, error) {
	if len(l.algorithms) > 0 && !slices.Contains(l.algorithms, access.Algorithm) {
		return nil, Effect{}, "", fault.New(fault.KeyUnsupported, "%s lets no %s key log in", v.name, access.Algorithm).
			WithHint("it takes %s", commas(l.algorithms))
	}
	if e.sockets[l.channel] == "" {
		return nil, Effect{}, "", bad("%s has no WebSocket in the environment %s", v.name, e.name)
	}
	d := &Draft{venue: v, login: l, env: e}
	if err := d.take(access, stamp); err != nil {
		return nil, Effect{}, "", err
	}
	d.Message = d.append(make([]byte, 0, messageRoom), l.message, asIs)
	return d, Effect{Operation: Session, Grants: l.grants}, e.sockets[l.channel], nil
}

// commas is names as a sentence has them.
func commas[Name ~string](names []Name) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ", ")
}

// FinishLogin gives the message with its signature, as the app sends it.
func (d *Draft) FinishLogin(signature []byte) []byte {
	d.signature = signature
	return d.append(make([]byte, 0, messageRoom+len(d.Message)), d.login.frame, inJSONText)
}
