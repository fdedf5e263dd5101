package mockvenue

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"
)

// tokenMetrics is Token Metrics' data API: a static header, nothing signed.
// Rules: developers.tokenmetrics.com.
func tokenMetrics() exchange {
	return exchange{
		algorithms: []string{"none"},
		routes: []route{
			{"GET", "/v2/*", Read, text(`{"success":true,"message":"Data fetched successfully","length":1,"data":[{"TOKEN_SYMBOL":"BTC"}]}`), nil},
		},
		apiKey: func(r *request) string { return r.Header.Get("X-Api-Key") },
		verify: func(*request, *account) *refusal { return nil },
		refuse: func(r *refusal) (int, string) {
			status := http.StatusBadRequest
			switch r.cause {
			case badKey:
				status = http.StatusUnauthorized
			case noRoute:
				status = http.StatusNotFound
			}
			return status, `{"success":false,"message":` + quote(r.text) + `}`
		},
		carry: func(h http.Header, _ string) bool { return h.Get("X-Api-Key") != "" },
	}
}

// acmeConfig declares acme to sealsign, after its hosts.
const acmeConfig = `algorithm = "hmac-sha256"
message = "{timestamp_ms}{method}{path}{?query}{body}"
headers = { "ACME-KEY" = "{api_key}", "ACME-TIME" = "{timestamp_ms}", "ACME-SIGN" = "{signature_hex}" }
operations = { trade = ["POST /orders"], withdraw = ["POST /payouts"], read = ["GET /*"] }
`

// acme is a venue that no built-in table knows. Some of its paths behave badly from the start.
func acme() exchange {
	return exchange{
		algorithms: []string{"hmac-sha256"},
		routes: []route{
			{"POST", "/orders", Order, func(r *request) string { return fmt.Sprintf(`{"id":%d}`, r.id) }, func(r *request) string { return r.field("client_id") }},
			{"POST", "/payouts", Withdraw, text(`{"id":"gone"}`), nil},
			{"GET", "/*", Read, text(`{"ok":true}`), nil},
		},
		faults: map[string]Behaviour{
			"/slow":     {Delay: 2 * time.Second},
			"/stream":   {Chunks: 10, Every: 100 * time.Millisecond},
			"/break":    {Chunks: 2, Break: true},
			"/redirect": {Redirect: "https://example.com/elsewhere"},
			"/limited":  {Status: http.StatusTooManyRequests, Retry: "7"},
		},
		apiKey: func(r *request) string { return r.Header.Get("Acme-Key") },
		verify: verifyAcme,
		refuse: func(r *refusal) (int, string) {
			status := http.StatusBadRequest
			switch r.cause {
			case badKey, badSignature:
				status = http.StatusUnauthorized
			case noRoute:
				status = http.StatusNotFound
			case duplicate:
				status = http.StatusConflict
			}
			return status, `{"error":` + quote(r.text) + `}`
		},
		carry: func(h http.Header, _ string) bool { return h.Get("Acme-Key") != "" },
	}
}

// verifyAcme is what acmeConfig describes.
func verifyAcme(r *request, a *account) *refusal {
	stamp := r.Header.Get("Acme-Time")
	want := mac(sha256.New, a.secret, stamp, r.Method, r.RequestURI, string(r.body))
	if r.Header.Get("Acme-Sign") != hex.EncodeToString(want) {
		return refused(badSignature, "wrong signature")
	}
	if ms, ok := integer(stamp); !ok || !r.within(time.UnixMilli(ms), 30*time.Second) {
		return refused(badTime, "too old or too new")
	}
	return nil
}
