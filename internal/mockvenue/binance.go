package mockvenue

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// binance is Binance spot and USDⓈ-M futures.
// Rules: github.com/binance/binance-spot-api-docs, rest-api.md and errors.md.
func binance() exchange {
	client := func(r *request) string { return r.form().Get("newClientOrderId") }
	return exchange{
		algorithms: []string{"hmac-sha256", "ed25519", "rsa-sha256"},
		routes: []route{
			{"GET", "/api/v3/ping", Public, object, nil},
			{"GET", "/api/v3/time", Public, serverTime, nil},
			{"GET", "/fapi/v1/time", Public, serverTime, nil},
			{"GET", "/api/v3/exchangeInfo", Public, binanceInfo, nil},
			{"GET", "/fapi/v1/exchangeInfo", Public, binanceInfo, nil},
			{"GET", "/api/v3/depth", Public, text(`{"lastUpdateId":1,"bids":[["100.00","1.0"]],"asks":[["101.00","1.0"]]}`), nil},
			{"GET", "/api/v3/ticker/price", Public, text(`{"symbol":"BTCUSDT","price":"100.00"}`), nil},
			{"GET", "/api/v3/account", Read, text(`{"makerCommission":10,"canTrade":true,"canWithdraw":false,"accountType":"SPOT","balances":[{"asset":"BTC","free":"1.00000000","locked":"0.00000000"}]}`), nil},
			{"GET", "/api/v3/openOrders", Read, list, nil},
			{"GET", "/api/v3/order", Read, text(`{"symbol":"BTCUSDT","orderId":1,"status":"NEW"}`), nil},
			{"GET", "/api/v3/myTrades", Read, list, nil},
			{"GET", "/fapi/v2/account", Read, text(`{"canTrade":true,"assets":[],"positions":[]}`), nil},
			{"GET", "/fapi/v3/account", Read, text(`{"canTrade":true,"assets":[],"positions":[]}`), nil},
			{"GET", "/fapi/v1/openOrders", Read, list, nil},
			{"GET", "/sapi/v1/account/apiRestrictions", Read, told(binanceTells), nil},
			{"POST", "/api/v3/order", Order, binanceOrder, client},
			{"POST", "/api/v3/order/test", Read, object, nil},
			{"POST", "/fapi/v1/order", Order, binanceOrder, client},
			{"POST", "/fapi/v1/batchOrders", Order, list, nil},
			{"DELETE", "/api/v3/order", Cancel, binanceCancel, nil},
			{"DELETE", "/api/v3/openOrders", Cancel, list, nil},
			{"DELETE", "/fapi/v1/order", Cancel, binanceCancel, nil},
			{"POST", "/api/v3/userDataStream", Session, text(`{"listenKey":"FAKE-listen-key"}`), nil},
			{"POST", "/fapi/v1/listenKey", Session, text(`{"listenKey":"FAKE-listen-key"}`), nil},
			{"POST", "/sapi/v1/capital/withdraw/apply", Withdraw, text(`{"id":"gone"}`), nil},
			{"POST", "/sapi/v1/asset/transfer", Withdraw, text(`{"tranId":1}`), nil},
		},
		apiKey: func(r *request) string { return r.Header.Get("X-Mbx-Apikey") },
		verify: verifyBinance,
		refuse: refuseBinance,
		carry: func(h http.Header, query string) bool {
			return h.Get("X-Mbx-Apikey") != "" || strings.Contains(query, "signature=")
		},
	}
}

// verifyBinance: the signature is the last parameter of the query or of the form
// body and covers query and body, joined by nothing, without it.
func verifyBinance(r *request, a *account) *refusal {
	if strings.HasSuffix(r.URL.Path, "/userDataStream") || strings.HasSuffix(r.URL.Path, "/listenKey") {
		return nil // the API key alone
	}
	query, inQuery := cutSignature(r.URL.RawQuery)
	body, inBody := cutSignature(string(r.body))
	signature := inQuery + inBody
	if signature == "" || inQuery != "" && inBody != "" {
		return refused(badRequest, "one parameter signature, and the last one, is wanted")
	}
	for name, values := range r.form() {
		if len(values) > 1 {
			return refused(badRequest, "parameter "+name+" twice")
		}
	}
	if !binanceSigned(a, query+body, signature) {
		return refused(badSignature, "the signature doesn't fit "+query+body)
	}
	form := r.form()
	ms, ok := integer(form.Get("timestamp"))
	if !ok {
		return refused(badRequest, "no timestamp")
	}
	recv, ok := integer(form.Get("recvWindow"))
	if !ok {
		recv = 5000
	}
	if recv > 60000 || !r.inWindow(ms, recv) {
		return refused(badTime, fmt.Sprintf("timestamp %d is outside of recvWindow %d", ms, recv))
	}
	return nil
}

func binanceSigned(a *account, message, signature string) bool {
	if a.public == nil {
		return strings.EqualFold(signature, hex.EncodeToString(mac(sha256.New, a.secret, message)))
	}
	unescaped, err := url.PathUnescape(signature)
	if err != nil {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(unescaped)
	return err == nil && signed(a.public, message, raw)
}

// cutSignature takes the last parameter off where it is the signature.
func cutSignature(params string) (rest, signature string) {
	rest, signature, found := strings.Cut(params, "&signature=")
	if found && !strings.Contains(signature, "&") {
		return rest, signature
	}
	return params, ""
}

func refuseBinance(r *refusal) (int, string) {
	status, code := http.StatusBadRequest, -1102
	switch r.cause {
	case badKey:
		status, code = http.StatusUnauthorized, -2015
	case badSignature:
		code = -1022
	case badTime:
		code = -1021
	case duplicate:
		code = -2010
	case noRoute:
		status, code = http.StatusNotFound, -1000
	}
	return status, fmt.Sprintf(`{"code":%d,"msg":%s}`, code, quote(r.text))
}

func binanceInfo(r *request) string {
	return fmt.Sprintf(`{"timezone":"UTC","serverTime":%d,"rateLimits":[],"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT"}]}`, r.now.UnixMilli())
}

func binanceOrder(r *request) string {
	form := r.form()
	return fmt.Sprintf(`{"symbol":%s,"orderId":%d,"clientOrderId":%s,"transactTime":%d,"status":"NEW"}`,
		quote(form.Get("symbol")), r.id, quote(form.Get("newClientOrderId")), r.now.UnixMilli())
}

func binanceCancel(r *request) string {
	form := r.form()
	return fmt.Sprintf(`{"symbol":%s,"origClientOrderId":%s,"status":"CANCELED"}`, quote(form.Get("symbol")), quote(form.Get("origClientOrderId")))
}
