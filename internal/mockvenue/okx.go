package mockvenue

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"
)

// okx is OKX v5. Rules: www.okx.com/docs-v5/en, "REST Authentication" and "Error Code".
func okx() exchange {
	return exchange{
		algorithms: []string{"hmac-sha256"},
		passphrase: true,
		routes: []route{
			{"GET", "/api/v5/public/time", Public, okxTime, nil},
			{"GET", "/api/v5/public/*", Public, okxEmpty, nil},
			{"GET", "/api/v5/market/*", Public, okxEmpty, nil},
			{"GET", "/api/v5/account/balance", Read, text(`{"code":"0","msg":"","data":[{"totalEq":"100","details":[{"ccy":"BTC","eq":"1"}]}]}`), nil},
			{"GET", "/api/v5/account/config", Read, told(okxTells), nil},
			{"GET", "/api/v5/account/*", Read, okxEmpty, nil},
			{"GET", "/api/v5/trade/*", Read, okxEmpty, nil},
			{"POST", "/api/v5/trade/order", Order, okxOrder, func(r *request) string { return r.field("clOrdId") }},
			{"POST", "/api/v5/trade/batch-orders", Order, okxEmpty, nil},
			{"POST", "/api/v5/trade/cancel-order", Cancel, okxEmpty, nil},
			{"POST", "/api/v5/trade/cancel-batch-orders", Cancel, okxEmpty, nil},
			{"POST", "/api/v5/asset/withdrawal", Withdraw, okxEmpty, nil},
			{"POST", "/api/v5/asset/transfer", Withdraw, okxEmpty, nil},
		},
		apiKey: func(r *request) string { return r.Header.Get("Ok-Access-Key") },
		verify: verifyOKX,
		refuse: func(r *refusal) (int, string) {
			status, code := http.StatusUnauthorized, 50113
			switch r.cause {
			case badSignature:
			case badKey:
				code = 50111
			case badTime:
				code = 50102
			case badPassphrase:
				code = 50105
			case noRoute:
				status, code = http.StatusNotFound, 404
			case duplicate:
				return http.StatusOK, `{"code":"1","msg":"Operation failed.","data":[{"sCode":"51016","sMsg":` + quote(r.text) + `}]}`
			default:
				status, code = http.StatusBadRequest, 51000
			}
			return status, fmt.Sprintf(`{"code":"%d","msg":%s,"data":[]}`, code, quote(r.text))
		},
		carry: func(h http.Header, _ string) bool { return h.Get("Ok-Access-Key") != "" },
	}
}

// verifyOKX: ISO time with milliseconds, method, target and body, HMAC-SHA256, base64.
func verifyOKX(r *request, a *account) *refusal {
	stamp := r.Header.Get("Ok-Access-Timestamp")
	want := mac(sha256.New, a.secret, stamp, r.Method, r.RequestURI, string(r.body))
	if r.Header.Get("Ok-Access-Sign") != base64.StdEncoding.EncodeToString(want) {
		return refused(badSignature, "Invalid Sign")
	}
	if r.Header.Get("Ok-Access-Passphrase") != a.passphrase {
		return refused(badPassphrase, "Invalid passphrase")
	}
	t, err := time.Parse("2006-01-02T15:04:05.000Z", stamp)
	if err != nil || !r.within(t, 30*time.Second) {
		return refused(badTime, "Timestamp request expired")
	}
	return nil
}

var okxEmpty = text(`{"code":"0","msg":"","data":[]}`)

func okxTime(r *request) string {
	return fmt.Sprintf(`{"code":"0","msg":"","data":[{"ts":"%d"}]}`, r.now.UnixMilli())
}

func okxOrder(r *request) string {
	return fmt.Sprintf(`{"code":"0","msg":"","data":[{"ordId":"%d","clOrdId":%s,"sCode":"0","sMsg":""}]}`, r.id, quote(r.field("clOrdId")))
}
