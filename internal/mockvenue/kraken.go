package mockvenue

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// kraken is Kraken spot. Rules: docs.kraken.com/api/docs/guides/spot-rest-auth.
func kraken() exchange {
	return exchange{
		algorithms:   []string{"hmac-sha512"},
		base64Secret: true,
		userAgent:    true,
		routes: []route{
			{"GET", "/0/public/Time", Public, krakenTime, nil},
			{"GET", "/0/public/SystemStatus", Public, text(`{"error":[],"result":{"status":"online"}}`), nil},
			{"GET", "/0/public/AssetPairs", Public, text(`{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","base":"XXBT","quote":"ZUSD"}}}`), nil},
			{"GET", "/0/public/Ticker", Public, text(`{"error":[],"result":{"XXBTZUSD":{"c":["100.0","1.0"]}}}`), nil},
			{"GET", "/0/public/Depth", Public, text(`{"error":[],"result":{"XXBTZUSD":{"asks":[],"bids":[]}}}`), nil},
			{"POST", "/0/private/Balance", Read, text(`{"error":[],"result":{"XXBT":"1.0000000000","ZUSD":"100.0000"}}`), nil},
			{"POST", "/0/private/OpenOrders", Read, text(`{"error":[],"result":{"open":{}}}`), nil},
			{"POST", "/0/private/QueryOrders", Read, text(`{"error":[],"result":{}}`), nil},
			{"POST", "/0/private/TradesHistory", Read, text(`{"error":[],"result":{"trades":{},"count":0}}`), nil},
			{"POST", "/0/private/GetApiKeyInfo", Read, told(krakenTells), nil},
			{"POST", "/0/private/AddOrder", Order, krakenOrder, func(r *request) string { return krakenField(r, "cl_ord_id") }},
			{"POST", "/0/private/AddOrderBatch", Order, text(`{"error":[],"result":{"orders":[]}}`), nil},
			{"POST", "/0/private/CancelOrder", Cancel, text(`{"error":[],"result":{"count":1}}`), nil},
			{"POST", "/0/private/CancelOrderBatch", Cancel, text(`{"error":[],"result":{"count":1}}`), nil},
			{"POST", "/0/private/CancelAll", Cancel, text(`{"error":[],"result":{"count":1}}`), nil},
			{"POST", "/0/private/GetWebSocketsToken", Session, text(`{"error":[],"result":{"token":"FAKE-token","expires":900}}`), nil},
			{"POST", "/0/private/Withdraw", Withdraw, text(`{"error":[],"result":{"refid":"gone"}}`), nil},
			{"POST", "/0/private/WalletTransfer", Withdraw, text(`{"error":[],"result":{"refid":"gone"}}`), nil},
		},
		apiKey: func(r *request) string { return r.Header.Get("Api-Key") },
		verify: verifyKraken,
		refuse: refuseKraken,
		carry: func(h http.Header, _ string) bool {
			return h.Get("Api-Key") != "" || h.Get("Api-Sign") != ""
		},
	}
}

// verifyKraken: API-Sign is HMAC-SHA512 over the path and the SHA-256 of nonce
// and body, keyed with the decoded secret; nonces of a key only rise.
func verifyKraken(r *request, a *account) *refusal {
	if r.URL.RawQuery != "" {
		return refused(badRequest, "a query in a private call")
	}
	text := krakenField(r, "nonce")
	digest := sha256.Sum256(append([]byte(text), r.body...))
	want := mac(sha512.New, a.secret, r.URL.EscapedPath(), string(digest[:]))
	if r.Header.Get("Api-Sign") != base64.StdEncoding.EncodeToString(want) {
		return refused(badSignature, "API-Sign doesn't fit")
	}
	nonce, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return refused(badNonce, "no nonce")
	}
	r.used = nonce
	if !a.rising(nonce) {
		return refused(badNonce, "nonce "+text+" is not higher than one before")
	}
	return nil
}

// krakenField reads one field of the body, form or JSON.
func krakenField(r *request, name string) string {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return r.field(name)
	}
	form, err := url.ParseQuery(string(r.body))
	if err != nil || len(form[name]) != 1 {
		return ""
	}
	return form[name][0]
}

func refuseKraken(r *refusal) (int, string) {
	word := map[cause]string{
		badRequest:   "EGeneral:Invalid arguments",
		badKey:       "EAPI:Invalid key",
		badSignature: "EAPI:Invalid signature",
		badNonce:     "EAPI:Invalid nonce",
		duplicate:    "EOrder:Invalid cl_ord_id",
		noRoute:      "EGeneral:Unknown method",
	}[r.cause]
	return http.StatusOK, `{"error":[` + quote(word) + `]}`
}

func krakenTime(r *request) string {
	return fmt.Sprintf(`{"error":[],"result":{"unixtime":%d,"rfc1123":%q}}`, r.now.Unix(), r.now.UTC().Format(time.RFC1123))
}

func krakenOrder(r *request) string {
	return fmt.Sprintf(`{"error":[],"result":{"descr":{"order":"as asked"},"txid":["OFAKE-%06d"]}}`, r.id)
}
