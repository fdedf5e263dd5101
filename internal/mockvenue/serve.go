package mockvenue

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxBody is more than any client may send through sealsign: 2 MiB.
const maxBody = 2 << 20

// controlPath answers with the venue's State as JSON, for tests in other processes.
const controlPath = "/_mock/state"

// Behaviour is how a path answers instead of its venue's ordinary way.
type Behaviour struct {
	Delay    time.Duration   // before the first byte
	Hold     <-chan struct{} // nothing comes, or with Chunks nothing after the first one, until it is closed
	Chunks   int             // so many chunks of 1 KiB …
	Every    time.Duration   // … one each time
	Break    bool            // then the connection is cut in the middle of the body
	Redirect string          // the Location of a 302
	Status   int             // an error status; with Retry seconds in Retry-After
	Retry    string
}

// serve is the way of each request: read, authenticate, note, answer.
func (s *Server) serve(w http.ResponseWriter, h *http.Request) {
	v := s.at(h)
	if h.URL.Path == controlPath {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v.seen.state()); err != nil {
			panic(http.ErrAbortHandler)
		}
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, h.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away or broke the framing
	}
	r := &request{Request: h, body: body, now: s.now()}
	row, known := v.match(h.Method, h.URL.EscapedPath())
	if !known {
		row.kind = Unknown
	}
	refusal := v.check(r, row, known)
	note := Arrival{
		Time: r.now, Method: h.Method, Path: h.URL.EscapedPath(), Query: h.URL.RawQuery, Header: h.Header,
		Body: body, Kind: row.kind, APIKey: v.apiKey(r), Nonce: r.used,
	}
	if refusal != nil {
		note.Problem = refusal.text
		v.seen.add(note)
		status, text := v.refuse(refusal)
		write(w, status, text)
		return
	}
	v.seen.add(note)
	if behaviour, ok := v.behaviour(h.URL.EscapedPath()); ok && behaviour.serve(w, h) {
		return
	}
	write(w, http.StatusOK, row.answer(r))
}

// at is the venue whose port the request came in at.
func (s *Server) at(h *http.Request) *venue {
	return s.hosts[h.Context().Value(http.LocalAddrContextKey).(net.Addr).String()]
}

// check is everything that makes a venue, or a test, say no.
func (v *venue) check(r *request, row route, known bool) *refusal {
	if name := leaked(r.Header, v.name); name != "" {
		return refused(badRequest, "header "+name+" came through")
	}
	if r.Host != v.host {
		return refused(badRequest, "host is "+r.Host+", not "+v.host)
	}
	if v.userAgent && r.UserAgent() == "" {
		return refused(badRequest, "no User-Agent")
	}
	if row.kind == Public {
		if v.carry(r.Header, r.URL.RawQuery) {
			return refused(badRequest, "a public request carries a credential")
		}
		return nil
	}
	key := v.apiKey(r)
	acct, ok := v.accounts.get(key)
	if !ok {
		return refused(badKey, "no account with the API key "+key)
	}
	if _, good := acct.standing(); !good {
		return refused(badKey, "the API key "+key+" was deleted")
	}
	r.account = acct
	if refusal := v.verify(r, acct); refusal != nil {
		return refusal
	}
	if !known {
		return refused(noRoute, "no such endpoint")
	}
	if row.kind == Order {
		return v.order(r, row)
	}
	return nil
}

// order takes an order in, once for each client order id.
func (v *venue) order(r *request, row route) *refusal {
	client := ""
	if row.client != nil {
		client = row.client(r)
	}
	id, ok := v.book.place(client)
	if !ok {
		return refused(duplicate, "client order id "+client+" again")
	}
	r.id = id
	return nil
}

// leaked names a header that says something of the app or of sealsign that is none of the venue's business.
func leaked(h http.Header, venue string) string {
	for name := range h {
		switch {
		case strings.HasPrefix(name, "Sealsign-"):
			return name
		case name == "Authorization" && venue == "coinbase-cdp":
		case name == "Authorization", name == "Proxy-Authorization", name == "Cookie", name == "Via", name == "Forwarded",
			strings.HasPrefix(name, "X-Forwarded-"):
			return name
		}
		if len(h[name]) > 1 {
			return name + " (given twice)"
		}
	}
	return ""
}

func write(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := io.WriteString(w, text); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// serve plays the behaviour; it is false where only a delay was wanted.
func (b Behaviour) serve(w http.ResponseWriter, h *http.Request) bool {
	if b.Delay > 0 {
		select {
		case <-time.After(b.Delay):
		case <-h.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if b.Chunks == 0 {
		b.wait(h)
	}
	switch {
	case b.Redirect != "":
		w.Header().Set("Location", b.Redirect)
		w.WriteHeader(http.StatusFound)
		return true
	case b.Status != 0:
		if b.Retry != "" {
			w.Header().Set("Retry-After", b.Retry)
		}
		write(w, b.Status, `{"error":"as the test wants it"}`)
		return true
	case b.Chunks > 0 || b.Break:
		b.stream(w, h)
		return true
	}
	return false
}

// wait returns when the test lets the answer go on.
func (b Behaviour) wait(h *http.Request) {
	if b.Hold == nil {
		return
	}
	select {
	case <-b.Hold:
	case <-h.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// stream sends the chunks, each flushed on its own.
func (b Behaviour) stream(w http.ResponseWriter, h *http.Request) {
	chunk := []byte(strings.Repeat("0123456789abcde\n", 64))
	flush := http.NewResponseController(w)
	for range max(b.Chunks, 1) {
		if _, err := w.Write(chunk); err != nil || flush.Flush() != nil {
			panic(http.ErrAbortHandler)
		}
		b.wait(h)
		select {
		case <-time.After(b.Every):
		case <-h.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if b.Break {
		panic(http.ErrAbortHandler)
	}
}
