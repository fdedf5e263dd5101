package mockvenue

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
)

// bybit is Bybit v5. Rules: bybit-exchange.github.io/docs/v5/guide and /v5/error.
func bybit() exchange {
	return exchange{
		algorithms: []string{"hmac-sha256", "rsa-sha256"},
		routes: []route{
			{"GET", "/v5/market/time", Public, bybitTime, nil},
			{"GET", "/v5/market/*", Public, bybitEmpty, nil},
			{"GET", "/v5/account/*", Read, bybitEmpty, nil},
			{"GET", "/v5/order/*", Read, bybitEmpty, nil},
			{"GET", "/v5/position/*", Read, bybitEmpty, nil},
			{"GET", "/v5/user/query-api", Read, told(bybitTells), nil},
			{"POST", "/v5/order/create", Order, bybitOrder, func(r *request) string { return r.field("orderLinkId") }},
			{"POST", "/v5/order/create-batch", Order, bybitEmpty, nil},
			{"POST", "/v5/order/cancel", Cancel, bybitEmpty, nil},
			{"POST", "/v5/order/cancel-all", Cancel, bybitEmpty, nil},
			{"POST", "/v5/asset/withdraw/create", Withdraw, bybitEmpty, nil},
			{"POST", "/v5/asset/transfer/*", Withdraw, bybitEmpty, nil},
		},
		apiKey: func(r *request) string { return r.Header.Get("X-Bapi-Api-Key") },
		verify: verifyBybit,
		refuse: func(r *refusal) (int, string) {
			code := map[cause]int{
				badRequest: 10001, badKey: 10003, badSignature: 10004, badTime: 10002, duplicate: 110072, noRoute: 10404,
			}[r.cause]
			return http.StatusOK, fmt.Sprintf(`{"retCode":%d,"retMsg":%s,"result":{},"retExtInfo":{}}`, code, quote(r.text))
		},
		carry: func(h http.Header, _ string) bool { return h.Get("X-Bapi-Api-Key") != "" },
	}
}

// verifyBybit: milliseconds, key, window, then the query of a GET or the body of a POST; hex for HMAC, base64 for RSA.
func verifyBybit(r *request, a *account) *refusal {
	stamp, window := r.Header.Get("X-Bapi-Timestamp"), r.Header.Get("X-Bapi-Recv-Window")
	payload := string(r.body)
	if r.Method != http.MethodPost {
		payload = r.URL.RawQuery
	}
	message, signature := stamp+a.apiKey+window+payload, r.Header.Get("X-Bapi-Sign")
	if a.public == nil {
		if signature != hex.EncodeToString(mac(sha256.New, a.secret, message)) {
			return refused(badSignature, "error sign! origin_string["+message+"]")
		}
	} else if raw, err := base64.StdEncoding.DecodeString(signature); err != nil || !signed(a.public, message, raw) {
		return refused(badSignature, "error sign! origin_string["+message+"]")
	}
	ms, ok := integer(stamp)
	if !ok {
		return refused(badTime, "no timestamp")
	}
	recv, ok := integer(window)
	if !ok {
		recv = 5000
	}
	if !r.inWindow(ms, recv) {
		return refused(badTime, fmt.Sprintf("timestamp %d is outside of recv_window %d", ms, recv))
	}
	return nil
}

var bybitEmpty = text(`{"retCode":0,"retMsg":"OK","result":{"list":[]},"retExtInfo":{}}`)

func bybitTime(r *request) string {
	return fmt.Sprintf(`{"retCode":0,"retMsg":"OK","result":{"timeSecond":"%d","timeNano":"%d"},"time":%d}`, r.now.Unix(), r.now.UnixNano(), r.now.UnixMilli())
}

func bybitOrder(r *request) string {
	return fmt.Sprintf(`{"retCode":0,"retMsg":"OK","result":{"orderId":"fake-%d","orderLinkId":%s},"retExtInfo":{}}`, r.id, quote(r.field("orderLinkId")))
}
