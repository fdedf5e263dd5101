package venue

import (
	"strings"
	"testing"
)

func TestBinding(t *testing.T) {
	const bound, passphrase = "", true
	tests := []struct {
		venue, line string
		loose       string // part of it; "": bound
		once        bool
		funds       string // part of FundMoving
		passphrase  bool
	}{
		{"binance", "GET /api/v3/account", "the method and the path", false, "", false},
		{"binance", "POST /api/v3/order symbol=A&side=BUY&type=LIMIT&quantity=1&price=2", "the path", false, "", false},
		{"binance", "GET /api/v3/account?asset=USDT&amount=5", "the path", false, "POST /sapi/v1/sub-account/transfer/subToMaster", false},
		{"binance", "GET /api/v3/myTrades?coin=XRP&address=r1&amount=5", "the path", false, "POST /sapi/v1/capital/withdraw/apply", false},
		{"binance", "GET /api/v3/account?address=A&amount=5&y=zcoin=USDT", "the path", false, "withdraw/apply", false},
		{"binance", "POST /sapi/v3/asset/getUserAsset?address=A&amount=5&y=zcoi n=USDT", "the path", false, "withdraw/apply", false},
		{"binance", "POST /sapi/v3/asset/getUserAsset?amount=5&y=z%41DDRESS=A&x=COIN=U", "the path", false, "withdraw/apply", false},
		{"binance", "POST /sapi/v1/unheard?coin=XRP address=r1&amount=5", "the path", false, "withdraw/apply", false},
		{"binance", "POST /sapi/v1/giftcard/redeemCode code=1", "the path", false, "giftcard/redeemCode", false},
		{"binance", "POST /api/v3/userDataStream", "no signature", false, "", false},
		{"kraken", "POST /0/private/AddOrder pair=A&type=buy", bound, true, "", false},
		{"kraken", `POST /0/private/AddOrder {"pair":"A","type":"buy"}`, bound, true, "", false},
		{"kraken", "POST /0/private/Balance 7nonce=1&nonce=2", "digit", true, "", false},
		{"okx", `POST /api/v5/trade/order {"instId":"A-B","side":"buy"}`, bound, false, "", passphrase},
		{"okx", "GET /api/v5/account/balance?ccy=BTC", bound, false, "", passphrase},
		{"okx", "GET /api/v5/account/balance?ccy=[1]", "body follows", false, "", passphrase},
		{"okx", "GET /api/v5/account/balance?ccy=a?b", "body follows", false, "", passphrase},
		{"bybit", "GET /v5/position/list?category=spot", "the path", false, "", false},
		{"bybit", `POST /v5/order/create {"category":"spot","symbol":"A","side":"Buy"}`, "the path", false, "", false},
		{"bybit", `POST /v5/unheard {"coin":"A","address":"b","amount":"1"}`, "the path", false, "POST /v5/asset/withdraw/create", false},
		{"coinbase-exchange", "DELETE /orders/abc", bound, false, "", passphrase},
		{"coinbase-exchange", "GET /orders?a={b}", "body follows", false, "", passphrase},
		{"coinbase-cdp", "GET /api/v3/brokerage/accounts", "the query and the body", false, "", false},
		{"coinbase-cdp", `POST /v2/accounts/x/transactions {"type":"send","to":"a","amount":"1","currency":"BTC"}`, "the body", false, "/transactions", false},
		{"okx", "GET /api/v5/public/time", bound, false, "", false},
	}
	for _, test := range tests {
		t.Run(test.venue+" "+test.line, func(t *testing.T) {
			_, call, err := line(t, test.venue, test.line)
			if err != nil {
				t.Fatal(err)
			}
			b := call.Binding
			if (b.Loose == "") != (test.loose == "") || !strings.Contains(b.Loose, test.loose) {
				t.Errorf("loose: %q, want %q", b.Loose, test.loose)
			}
			if (b.Once != "") != test.once {
				t.Errorf("once: %q", b.Once)
			}
			if (b.FundMoving == "") != (test.funds == "") || !strings.Contains(b.FundMoving, test.funds) {
				t.Errorf("moves funds: %q, want %q", b.FundMoving, test.funds)
			}
			if b.Passphrase != test.passphrase || b.Never {
				t.Errorf("passphrase %v, never %v", b.Passphrase, b.Never)
			}
		})
	}
	if _, call, err := line(t, "tokenmetrics", "GET /v2/tokens"); err != nil || !call.Binding.Never {
		t.Errorf("tokenmetrics: %+v, %v", call, err)
	}
}

func TestCover(t *testing.T) {
	tests := []struct {
		message string
		loose   string // part of it; "": bound
		json    bool
	}{
		{"{timestamp_ms}{method}{path}{?query}{body}", "", true},
		{"{method}{path}{?query}{body}{timestamp_s}", "", true},
		{"{method}\n{path}\n{query}\n{body}", "", false},
		{"{method} {path} {query} {body}", "", false},
		{"{method}{path}{?query}\n{body_sha256_hex}", "", false},
		{"{method}{path}{?query}{body_sha256_hex}", "", false},
		{"{method}{path}{?query}{body_sha512_hex}{nonce}{uuid}", "", false},
		{"{method}|{host}{path}|{query}|{body}", "{query} runs into", false}, // a query may have a bar
		{"{method}\n{host}{path}{?query}\n{body}", "", false},
		{"{api_key}{method}{path}{?query}{body}", "", true},
		{"{path}{method}{?query}{body}", "{path} runs into", false},
		{"{method}{path}{query}{body}", "{path} runs into", false},
		{"{method}{query}{path}{body}", "{method} runs into", false},
		{"{path}\n{query}{body}{method}", "{body} runs into", true},
		{"{path}\n{query}\n{body}{method}", "{body} runs into", false},
		{"{body}{path}{?query}{method}", "{body} runs into {path}", false},
		{"{method}{api_key}{path}{?query}{body}", "{method} runs into", false},
		{"{method}POST{path}{?query}{body}", "{method} runs into the text after it", false},
		{"{path}{timestamp_ms}{method}{?query}{body}", "{path} runs into", false},
		{"{method}{body}\n{path}{?query}", "{method} runs into {body}", false},
		{"{path}{?query}{body}", "the method", false},
	}
	for _, test := range tests {
		v := &Venue{message: must(test.message)}
		c := cover(v)
		if (c.loose == "") != (test.loose == "") || !strings.Contains(c.loose, test.loose) || c.loose == "" && c.json != test.json {
			t.Errorf("%q: %+v, want %q", test.message, c, test.loose)
		}
	}
}
