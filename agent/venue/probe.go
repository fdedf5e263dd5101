package venue

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rights are what a venue says that a credential may do there.
type Rights struct {
	Withdraw *bool     // move funds out of the account; nil: the venue doesn't say
	IPList   *bool     // only from addresses that are listed there; nil: the venue doesn't say
	Expires  time.Time // zero: never, or the venue doesn't say
}

// Verdict is what the answer to a probe says of the credential.
type Verdict int

// The verdicts.
const (
	Unclear  Verdict = iota // nothing: the venue is down or busy, or says what the table doesn't know
	Accepted                // the credential is good
	Refused                 // it is not
)

// probe is a read that harms nothing and needs no particular right: the venue's
// answer shows whether it takes the credential.
type probe struct {
	line   string
	rights func(answer any) Rights // what the answer says of the credential; nil: nothing
}

// refusals are how a venue says that it doesn't take a credential. A status alone
// is enough unless its code tells of something else: to keep a version that signs
// is a smaller mistake than to switch to one that doesn't.
type refusals struct {
	statuses []int
	code     []string // where an answer has the venue's code, see find; nil: it has none
	codes    []string // those that say it, whatever the status
	others   []string // those that come with such a status, and don't
}

// HTTP statuses that a verdict depends on.
const succeeded, unauthorized, forbidden = 200, 401, 403

// Probe is a read that harms nothing and shows whether the venue takes a
// credential. ok is false where the table has none for the environment's hosts.
func (v *Venue) Probe(env string) (r Request, ok bool) {
	e := v.environment(env)
	if e == nil {
		return Request{}, false
	}
	for _, p := range v.probes {
		method, path, _ := strings.Cut(p.line, " ")
		for i := range e.hosts {
			if !e.hosts[i].serves(path) {
				continue
			}
			r, err := NewRequest(method, e.hosts[i].name, path, "", nil)
			return r, err == nil
		}
	}
	return Request{}, false
}

// TellsRights tells whether the answer to the environment's probe says what the
// credential may do.
func (v *Venue) TellsRights(env string) bool {
	r, ok := v.Probe(env)
	return ok && v.probeOf(&r).rights != nil
}

// Judge reads the answer to a probe. code is the venue's own for a refusal, where
// it has one; rights are nil where the answer doesn't tell them.
func (v *Venue) Judge(r *Request, status int, body []byte) (verdict Verdict, code string, rights *Rights) {
	var answer any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	readable := decoder.Decode(&answer) == nil
	code = text(find(answer, v.refuses.code...))
	switch {
	case slices.Contains(v.refuses.codes, code):
		return Refused, code, nil
	case slices.Contains(v.refuses.statuses, status) && !slices.Contains(v.refuses.others, code):
		return Refused, "", nil
	case status != succeeded || !readable || code != "" && code != "0":
		return Unclear, "", nil
	}
	if read := v.probeOf(r).rights; read != nil {
		told := read(answer)
		rights = &told
	}
	return Accepted, "", rights
}

// probeOf is the probe that a request is, or an empty one.
func (v *Venue) probeOf(r *Request) probe {
	at := slices.IndexFunc(v.probes, func(p probe) bool { return p.line == r.Method+" "+r.Path })
	if at < 0 {
		return probe{}
	}
	return v.probes[at]
}

// find walks down an answer by the names of members, and "0" for the first of a
// list; nil: there is no such thing.
func find(answer any, path ...string) any {
	if len(path) == 0 {
		return nil
	}
	for _, step := range path {
		switch at := answer.(type) {
		case map[string]any:
			answer = at[step]
		case []any:
			if step != "0" || len(at) == 0 {
				return nil
			}
			answer = at[0]
		default:
			return nil
		}
	}
	return answer
}

// text is a text or a number of an answer, or empty.
func text(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case json.Number:
		return value.String()
	}
	return ""
}

// says is a yes or no of an answer; nil: there is none.
func says(value any) *bool {
	if yes, ok := value.(bool); ok {
		return &yes
	}
	return nil
}

// lists tells whether a list of texts has this one; nil: there is no list.
func lists(value any, word string) *bool {
	list, ok := value.([]any)
	if !ok {
		return nil
	}
	has := slices.ContainsFunc(list, func(item any) bool { return text(item) == word })
	return &has
}

// addressed tells whether a list of addresses limits anything: an empty one and
// "*" don't. nil: there is no list.
func addressed(value any) *bool {
	list, ok := value.([]any)
	if !ok {
		return nil
	}
	limits := len(list) > 0 && !slices.ContainsFunc(list, func(item any) bool { return text(item) == "*" || text(item) == "" })
	return &limits
}

// since1970 is a time as a count of units; 0 and what is no number are none.
func since1970(value any, unit time.Duration) time.Time {
	count, err := strconv.ParseInt(text(value), 10, 64)
	if err != nil || count <= 0 || count > int64(1<<62)/int64(unit) {
		return time.Time{}
	}
	return time.Unix(0, count*int64(unit)).UTC()
}
