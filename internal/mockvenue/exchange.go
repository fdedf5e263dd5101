package mockvenue

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"hash"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// exchange is one venue's side of the wire. An exchange is one literal.
type exchange struct {
	algorithms   []string
	passphrase   bool // accounts have one
	base64Secret bool // HMAC secrets are handed out in base64
	rawEd25519   bool // Ed25519 keys are handed out as base64 of seed and public key
	routes       []route
	userAgent    bool                 // requests without one are refused
	faults       map[string]Behaviour // paths that behave badly from the start

	apiKey func(*request) string              // the account that the request names; empty: none
	verify func(*request, *account) *refusal  // is it signed by that account, and in time
	refuse func(*refusal) (int, string)       // the venue's own words for it
	carry  func(h http.Header, q string) bool // does a public request carry a credential all the same
}

// route is one endpoint. A path that ends in * stands for all below it.
type route struct {
	method string
	path   string
	kind   Kind
	answer func(*request) string // JSON
	client func(*request) string // the client order id of an order, or of the order that a cancel names
}

// request is one request that arrived, read.
type request struct {
	*http.Request
	body    []byte
	now     time.Time
	account *account // that signed it
	id      int64    // of the order that it made
	used    uint64   // the nonce that it carried
}

// refusal is why a venue says no.
type refusal struct {
	cause cause
	text  string
}

type cause int

const (
	badRequest cause = iota
	badKey
	badSignature
	badTime
	badNonce
	badPassphrase
	duplicate
	noRoute
)

func refused(c cause, text string) *refusal { return &refusal{cause: c, text: text} }

// match finds the row of a request.
func (x *exchange) match(method, path string) (route, bool) {
	for _, row := range x.routes {
		if row.method != method {
			continue
		}
		prefix, open := strings.CutSuffix(row.path, "*")
		if row.path == path || open && strings.HasPrefix(path, prefix) {
			return row, true
		}
	}
	return route{}, false
}

// form is the query and the form body, each parameter's values in a list.
func (r *request) form() url.Values {
	values := r.URL.Query()
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		body, _ := url.ParseQuery(string(r.body))
		for name, list := range body {
			values[name] = append(values[name], list...)
		}
	}
	return values
}

// field is one text of a JSON body.
func (r *request) field(name string) string {
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader(r.body))
	decoder.UseNumber()
	if decoder.Decode(&object) != nil {
		return ""
	}
	switch value := object[name].(type) {
	case string:
		return value
	case json.Number:
		return value.String()
	}
	return ""
}

// within says whether a time is at most so far from the venue's clock, either way.
func (r *request) within(t time.Time, limit time.Duration) bool {
	return r.now.Sub(t).Abs() <= limit
}

// inWindow is the rule of Binance and Bybit: at most a second ahead, at most recv old.
func (r *request) inWindow(ms, recv int64) bool {
	now := r.now.UnixMilli()
	return ms < now+1000 && now-ms <= recv
}

func mac(newHash func() hash.Hash, key []byte, parts ...string) []byte {
	h := hmac.New(newHash, key)
	for _, part := range parts {
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// signed checks an asymmetric signature of the kinds that venues take.
func signed(public crypto.PublicKey, message string, signature []byte) bool {
	digest := sha256.Sum256([]byte(message))
	switch key := public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(key, []byte(message), signature)
	case *ecdsa.PublicKey:
		if len(signature) != 64 {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		return ecdsa.Verify(key, digest[:], r, s)
	}
	return false
}

// integer reads a decimal number; ok is false on anything else.
func integer(text string) (n int64, ok bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// quote writes a JSON string.
func quote(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		return `""`
	}
	return string(quoted)
}

// book knows the orders of a venue by their client order ids.
type book struct {
	mu   sync.Mutex
	last int64
	open map[string]bool
}

// place takes an order in; ok is false where its client order id is known already.
func (b *book) place(client string) (id int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if client != "" {
		if b.open[client] {
			return 0, false
		}
		if b.open == nil {
			b.open = make(map[string]bool)
		}
		b.open[client] = true
	}
	b.last++
	return b.last, true
}

// text is an answer that needs nothing of the request.
func text(json string) func(*request) string { return func(*request) string { return json } }

var (
	object = text(`{}`)
	list   = text(`[]`)
)

func serverTime(r *request) string {
	return `{"serverTime":` + strconv.FormatInt(r.now.UnixMilli(), 10) + `}`
}
