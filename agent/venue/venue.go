// Package venue knows what a request would do at a venue and what the venue
// wants signed. A venue is a table entry (see binance.go for the model); the
// engine that reads the tables is generic. The package is pure: it does no I/O
// and reads no clock. Nothing here sees a secret but the API key id and the
// passphrase, which the venue wants sent in the clear.
package venue

import "time"

// Operation is what one effect of a request does at the venue.
type Operation string

// The operations, as roles name them.
const (
	Read     Operation = "read"
	Trade    Operation = "trade"
	Cancel   Operation = "cancel"
	Settings Operation = "settings" // leverage, margin mode, …
	Transfer Operation = "transfer"
	Withdraw Operation = "withdraw"
	Admin    Operation = "admin"
	Session  Operation = "session" // the answer is itself a credential
	Public   Operation = "public"  // needs no credential
	Unknown  Operation = "unknown" // no row of the table matches
)

// Operations are all of them. The last, Unknown, is no word of a role's.
var Operations = []Operation{Read, Trade, Cancel, Settings, Transfer, Withdraw, Admin, Session, Public, Unknown}

// Effect is one thing that a request does. A batch has several. Texts are the
// request's own, decoded; a field that the request or the venue doesn't have is empty.
type Effect struct {
	Operation     Operation
	Symbol        string
	Side          string // "buy" or "sell"
	Type          string // the venue's own word: LIMIT, market, …
	Quantity      string
	QuoteQuantity string // size in quote currency
	Price         string
	ClientOrderID string
	Asset         string // of a transfer or withdrawal
	Network       string
	Address       string
	Tag           string

	// ExactLine: only a role's exact "METHOD /path" line grants it (cancel-all, dead-man timers, unknown requests).
	ExactLine bool
	// Named: a cancel of named orders, which passes symbols without naming one.
	Named bool
	// Grants is what the credential in the answer can do, of a Session effect.
	Grants []Operation
}

// Algorithm is how a credential signs.
type Algorithm string

// The algorithms, as the config names them.
const (
	HMACSHA256 Algorithm = "hmac-sha256"
	HMACSHA384 Algorithm = "hmac-sha384"
	HMACSHA512 Algorithm = "hmac-sha512"
	RSASHA256  Algorithm = "rsa-sha256" // RSASSA-PKCS1-v1_5
	Ed25519    Algorithm = "ed25519"
	ES256      Algorithm = "es256" // ECDSA P-256, signature as r||s
	None       Algorithm = "none"  // a static header
)

// Request is one call of a venue's API, its bytes as they will be on the wire.
// NewRequest is the only way to make one: it refuses what can be read in two ways.
type Request struct {
	Method      string
	Host        string // lower case, with a port unless it is 443
	Path        string // raw, in its normal form
	Query       string // raw, without "?"
	ContentType string
	Body        []byte // the request's own from NewRequest on: nobody may write to it

	pairs []value // the parameters of the query and of a form body, in the order of their bytes
	tape  []value // a JSON body: its root first, see parseJSON
	body  bodyKind
}

// Binding is what the venue's signature over one request covers and how often
// the venue accepts it: what decides whether it can be released.
type Binding struct {
	// Loose says what the signature leaves open, in words; empty: it determines
	// method, path, query and body, so that no other request fits it.
	Loose string
	// Once names what makes the venue accept the request only once; empty: nothing does.
	Once string
	// Never: the credential itself would be in the released request.
	Never bool
	// FundMoving: with an unbound signature, these parameters would satisfy a known endpoint that moves funds.
	FundMoving string
	// Passphrase: the release would show the passphrase.
	Passphrase bool
}

// Access is what the venue wants sent in the clear with a request.
type Access struct {
	APIKey     []byte
	Passphrase []byte
	Algorithm  Algorithm
}

// Stamp is what makes one request unlike the next. The agent draws it.
type Stamp struct {
	Time   time.Time
	Nonce  uint64   // for venues with Nonce set; strictly increasing per key
	Random [16]byte // for venues that want a random token
}
