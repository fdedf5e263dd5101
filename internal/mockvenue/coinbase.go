package mockvenue

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// coinbaseExchange is Coinbase Exchange.
// Rules: docs.cdp.coinbase.com/exchange/rest-api/authentication.
func coinbaseExchange() exchange {
	return exchange{
		algorithms:   []string{"hmac-sha256"},
		passphrase:   true,
		base64Secret: true,
		userAgent:    true,
		routes: []route{
			{"GET", "/time", Public, coinbaseTime, nil},
			{"GET", "/products", Public, text(`[{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","status":"online"}]`), nil},
			{"GET", "/products/*", Public, text(`{"price":"100.00"}`), nil},
			{"GET", "/accounts", Read, text(`[{"id":"fake","currency":"BTC","balance":"1.0","available":"1.0","hold":"0"}]`), nil},
			{"GET", "/accounts/*", Read, object, nil},
			{"GET", "/orders", Read, list, nil},
			{"GET", "/orders/*", Read, object, nil},
			{"GET", "/fills", Read, list, nil},
			{"POST", "/orders", Order, coinbaseOrder, func(r *request) string { return r.field("client_oid") }},
			{"DELETE", "/orders", Cancel, list, nil},
			{"DELETE", "/orders/*", Cancel, text(`"cancelled"`), nil},
			{"POST", "/withdrawals/*", Withdraw, text(`{"id":"gone"}`), nil},
			{"POST", "/profiles/transfer", Withdraw, object, nil},
		},
		apiKey: func(r *request) string { return r.Header.Get("Cb-Access-Key") },
		verify: verifyCoinbaseExchange,
		refuse: func(r *refusal) (int, string) {
			status := http.StatusBadRequest
			switch r.cause {
			case badKey, badSignature, badPassphrase:
				status = http.StatusUnauthorized
			case noRoute:
				status = http.StatusNotFound
			}
			return status, `{"message":` + quote(r.text) + `}`
		},
		carry: func(h http.Header, _ string) bool { return h.Get("Cb-Access-Key") != "" },
	}
}

// verifyCoinbaseExchange: seconds, method, target and body, HMAC-SHA256 with the decoded secret, base64.
func verifyCoinbaseExchange(r *request, a *account) *refusal {
	stamp := r.Header.Get("Cb-Access-Timestamp")
	want := mac(sha256.New, a.secret, stamp, r.Method, r.RequestURI, string(r.body))
	if r.Header.Get("Cb-Access-Sign") != base64.StdEncoding.EncodeToString(want) {
		return refused(badSignature, "invalid signature")
	}
	if r.Header.Get("Cb-Access-Passphrase") != a.passphrase {
		return refused(badPassphrase, "invalid Passphrase")
	}
	if s, ok := integer(stamp); !ok || !r.within(time.Unix(s, 0), 30*time.Second) {
		return refused(badTime, "request timestamp expired")
	}
	return nil
}

func coinbaseTime(r *request) string {
	return fmt.Sprintf(`{"iso":%q,"epoch":%d.%03d}`, r.now.UTC().Format("2006-01-02T15:04:05.000Z"), r.now.Unix(), r.now.UnixMilli()%1000)
}

func coinbaseOrder(r *request) string {
	return fmt.Sprintf(`{"id":"fake-%d","client_oid":%s,"product_id":%s,"status":"pending"}`,
		r.id, quote(r.field("client_oid")), quote(r.field("product_id")))
}

// coinbaseCDP is Coinbase Advanced Trade with CDP keys.
// Rules: docs.cdp.coinbase.com/get-started/authentication/jwt-authentication.
func coinbaseCDP() exchange {
	return exchange{
		algorithms: []string{"es256", "ed25519"},
		rawEd25519: true,
		routes: []route{
			{"GET", "/api/v3/brokerage/time", Public, coinbaseCDPTime, nil},
			{"GET", "/api/v3/brokerage/market/*", Public, text(`{"products":[]}`), nil},
			{"GET", "/api/v3/brokerage/accounts", Read, text(`{"accounts":[{"uuid":"fake","currency":"BTC","available_balance":{"value":"1","currency":"BTC"}}],"has_next":false}`), nil},
			{"GET", "/api/v3/brokerage/key_permissions", Read, told(coinbaseCDPTells), nil},
			{"GET", "/api/v3/brokerage/orders/*", Read, text(`{"orders":[]}`), nil},
			{"POST", "/api/v3/brokerage/orders", Order, coinbaseCDPOrder, func(r *request) string { return r.field("client_order_id") }},
			{"POST", "/api/v3/brokerage/orders/batch_cancel", Cancel, text(`{"results":[]}`), nil},
			{"POST", "/v2/accounts/*", Withdraw, text(`{"data":{"id":"gone"}}`), nil},
			{"POST", "/api/v3/brokerage/portfolios/move_funds", Withdraw, object, nil},
		},
		apiKey: func(r *request) string {
			token, err := parseToken(r.Header.Get("Authorization"))
			if err != nil {
				return ""
			}
			return token.header.KeyID
		},
		verify: verifyCDP,
		refuse: func(r *refusal) (int, string) {
			switch r.cause {
			case noRoute:
				return http.StatusNotFound, `{"error":"NOT_FOUND"}`
			case duplicate:
				return http.StatusOK, `{"success":false,"error_response":{"error":"DUPLICATE_CLIENT_ORDER_ID","message":` + quote(r.text) + `}}`
			case badRequest:
				return http.StatusBadRequest, `{"error":"INVALID_ARGUMENT","message":` + quote(r.text) + `}`
			}
			return http.StatusUnauthorized, `{"error":"UNAUTHENTICATED","message":` + quote(r.text) + `}`
		},
		carry: func(h http.Header, _ string) bool { return h.Get("Authorization") != "" },
	}
}

// token is a JSON Web Token, parsed and not yet verified.
type token struct {
	header struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
		Nonce     string `json:"nonce"`
	}
	claims struct {
		Subject   string   `json:"sub"`
		NotBefore int64    `json:"nbf"`
		Expires   int64    `json:"exp"`
		URI       string   `json:"uri"`
		URIs      []string `json:"uris"`
	}
	message   string
	signature []byte
}

func parseToken(authorization string) (*token, error) {
	parts := strings.Split(strings.TrimPrefix(authorization, "Bearer "), ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%d parts", len(parts))
	}
	t := &token{message: parts[0] + "." + parts[1]}
	for part, into := range map[string]any{parts[0]: &t.header, parts[1]: &t.claims} {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, into); err != nil {
			return nil, err
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	t.signature = signature
	return t, err
}

// verifyCDP: a JWT of this key, for this method, host and path, of at most two minutes, used once.
func verifyCDP(r *request, a *account) *refusal {
	t, err := parseToken(r.Header.Get("Authorization"))
	if err != nil {
		return refused(badSignature, "not a JWT: "+err.Error())
	}
	algorithm := "ES256"
	if _, ok := a.public.(ed25519.PublicKey); ok {
		algorithm = "EdDSA"
	}
	if t.header.Algorithm != algorithm || !signed(a.public, t.message, t.signature) {
		return refused(badSignature, "the token's signature doesn't fit")
	}
	uri := r.Method + " " + r.Host + r.URL.EscapedPath()
	if t.claims.URI != uri && !slices.Equal(t.claims.URIs, []string{uri}) {
		return refused(badSignature, "the token is for "+t.claims.URI+strings.Join(t.claims.URIs, ", ")+", not "+uri)
	}
	now := r.now.Unix()
	if t.claims.Subject != a.apiKey || t.claims.NotBefore > now+1 || t.claims.Expires <= now || t.claims.Expires-t.claims.NotBefore > 120 {
		return refused(badTime, "the token's subject or time is wrong")
	}
	if t.header.Nonce == "" || !a.once(t.header.Nonce) {
		return refused(badNonce, "the token's nonce is missing or was used")
	}
	return nil
}

func coinbaseCDPTime(r *request) string {
	return fmt.Sprintf(`{"iso":%q,"epochSeconds":"%d","epochMillis":"%d"}`, r.now.UTC().Format(time.RFC3339), r.now.Unix(), r.now.UnixMilli())
}

func coinbaseCDPOrder(r *request) string {
	return fmt.Sprintf(`{"success":true,"success_response":{"order_id":"fake-%d","client_order_id":%s}}`, r.id, quote(r.field("client_order_id")))
}
