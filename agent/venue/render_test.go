package venue

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

var (
	testTime   = time.UnixMilli(1700000000123)
	testStamp  = Stamp{Time: testTime, Nonce: 1700000000123456789, Random: [16]byte{0: 0xab, 6: 0xff, 8: 0xff, 15: 0xcd}}
	testAccess = Access{APIKey: []byte("KEY"), Passphrase: []byte("PASS"), Algorithm: HMACSHA256}
)

// finish renders a request of the production environment and signs it with "SIG".
func finish(t *testing.T, venue, request string, algorithm Algorithm) (*Draft, *Signed) {
	t.Helper()
	v, call, err := line(t, venue, request)
	if err != nil {
		t.Fatal(err)
	}
	r := lineRequest(t, v, request)
	access := testAccess
	access.Algorithm = algorithm
	d, err := v.Render(r, call, access, testStamp, "production")
	if err != nil {
		t.Fatal(err)
	}
	return d, d.Finish([]byte("SIG"))
}

func lineRequest(t *testing.T, v *Venue, line string) *Request {
	t.Helper()
	method, rest, _ := strings.Cut(line, " ")
	target, body, _ := strings.Cut(rest, " ")
	r, err := NewRequest(method, v.Hosts("production")[0], target, "", []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestRenderReplacesInPlace(t *testing.T) {
	tests := []struct {
		name, venue, request string
		algorithm            Algorithm
		message, query, body string
	}{
		{"timestamp kept in its place", "binance", "POST /api/v3/order symbol=A&timestamp=1&side=BUY", HMACSHA256,
			"symbol=A&timestamp=1700000000123&side=BUY", "", "symbol=A&timestamp=1700000000123&side=BUY&signature=534947"},
		{"timestamp appended to a form", "binance", "POST /api/v3/order symbol=A&side=BUY", HMACSHA256,
			"symbol=A&side=BUY&timestamp=1700000000123", "", "symbol=A&side=BUY&timestamp=1700000000123&signature=534947"},
		{"timestamp appended to a query", "binance", "GET /api/v3/openOrders?symbol=A", HMACSHA256,
			"symbol=A&timestamp=1700000000123", "symbol=A&timestamp=1700000000123&signature=534947", ""},
		{"timestamp alone", "binance", "GET /api/v3/account", HMACSHA256,
			"timestamp=1700000000123", "timestamp=1700000000123&signature=534947", ""},
		{"the app's signature goes", "binance", "GET /api/v3/openOrders?signature=x&symbol=A&timestamp=1", HMACSHA256,
			"symbol=A&timestamp=1700000000123", "symbol=A&timestamp=1700000000123&signature=534947", ""},
		{"query and body", "binance", "POST /api/v3/order?symbol=A&timestamp=1 side=BUY&price=2", HMACSHA256,
			"symbol=A&timestamp=1700000000123side=BUY&price=2", "symbol=A&timestamp=1700000000123", "side=BUY&price=2&signature=534947"},
		{"parameters of a POST in its query", "binance", "POST /api/v3/order?symbol=A&side=BUY", HMACSHA256,
			"symbol=A&side=BUY&timestamp=1700000000123", "symbol=A&side=BUY&timestamp=1700000000123&signature=534947", ""},
		{"encoding kept", "binance", "POST /api/v3/order symbol=A&side=BUY&newClientOrderId=%7ea+b&timestamp=1", HMACSHA256,
			"symbol=A&side=BUY&newClientOrderId=%7ea+b&timestamp=1700000000123", "",
			"symbol=A&side=BUY&newClientOrderId=%7ea+b&timestamp=1700000000123&signature=534947"},
		{"base64 signature, percent-encoded", "binance", "GET /api/v3/account", Ed25519,
			"timestamp=1700000000123", "timestamp=1700000000123&signature=U0lH", ""},
		{"API key alone", "binance", "PUT /api/v3/userDataStream listenKey=x", HMACSHA256, "", "", "listenKey=x"},
		{"public", "binance", "GET /api/v3/depth?symbol=A", HMACSHA256, "", "symbol=A", ""},
		{"OKX", "okx", `POST /api/v5/trade/order {"instId": "A-B", "side":"buy"}`, HMACSHA256,
			`2023-11-14T22:13:20.123ZPOST/api/v5/trade/order{"instId": "A-B", "side":"buy"}`, "", `{"instId": "A-B", "side":"buy"}`},
		{"Bybit", "bybit", "GET /v5/order/realtime?category=spot", HMACSHA256, "1700000000123KEY5000category=spot", "category=spot", ""},
		{"Coinbase Exchange", "coinbase-exchange", "GET /orders?limit=1", HMACSHA256, "1700000000GET/orders?limit=1", "limit=1", ""},
		{"static header", "tokenmetrics", "GET /v2/tokens?a=b", None, "", "a=b", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, signed := finish(t, test.venue, test.request, test.algorithm)
			if string(d.Message) != test.message || (d.Message == nil) != (test.message == "") {
				t.Errorf("message %q, want %q", d.Message, test.message)
			}
			if signed.Query != test.query || string(signed.Body) != test.body {
				t.Errorf("query %q, body %q", signed.Query, signed.Body)
			}
		})
	}
}

func TestRenderNonce(t *testing.T) {
	for body, want := range map[string]string{
		"":                                "nonce=1700000000123456789",
		"asset=ZUSD":                      "nonce=1700000000123456789&asset=ZUSD",
		"asset=ZUSD&nonce=5&x=1":          "asset=ZUSD&nonce=1700000000123456789&x=1",
		`{}`:                              `{"nonce":"1700000000123456789"}`,
		` { "asset" : "ZUSD" } `:          ` {"nonce":"1700000000123456789", "asset" : "ZUSD" } `,
		`{"asset":"Z", "nonce" : 5 }`:     `{"asset":"Z", "nonce" : "1700000000123456789" }`,
		`{"nonce":"5","a":{"nonce":"6"}}`: `{"nonce":"1700000000123456789","a":{"nonce":"6"}}`,
	} {
		v, _ := Builtin("kraken")
		access := testAccess
		access.Algorithm = HMACSHA512
		d := render(t, v, "POST", "api.kraken.com", "/0/private/TradeBalance", "", body, access, testStamp)
		if signed := d.Finish([]byte("SIG")); string(signed.Body) != want {
			t.Errorf("%s: body %s, want %s", body, signed.Body, want)
		} else if signed.Query != "" {
			t.Errorf("%s: query %s", body, signed.Query)
		}
	}
}

func TestRenderHeader(t *testing.T) {
	tests := []struct {
		venue, request string
		algorithm      Algorithm
		want           string
	}{
		{"binance", "GET /api/v3/account", HMACSHA256, "X-MBX-APIKEY: KEY"},
		{"binance", "POST /api/v3/userDataStream", HMACSHA256, "X-MBX-APIKEY: KEY"},
		{"binance", "POST /api/v3/order symbol=A&side=BUY", HMACSHA256, "X-MBX-APIKEY: KEY|Content-Type: application/x-www-form-urlencoded"},
		{"binance", "GET /api/v3/time", HMACSHA256, ""},
		{"kraken", "POST /0/private/Balance", HMACSHA512, "API-Key: KEY|API-Sign: U0lH|Content-Type: application/x-www-form-urlencoded"},
		{"okx", `POST /api/v5/trade/order {"instId":"A-B"}`, HMACSHA256,
			"OK-ACCESS-KEY: KEY|OK-ACCESS-SIGN: U0lH|OK-ACCESS-TIMESTAMP: 2023-11-14T22:13:20.123Z|OK-ACCESS-PASSPHRASE: PASS|Content-Type: application/json"},
		{"bybit", "GET /v5/position/list", RSASHA256, "X-BAPI-API-KEY: KEY|X-BAPI-TIMESTAMP: 1700000000123|X-BAPI-RECV-WINDOW: 5000|X-BAPI-SIGN: U0lH"},
		{"coinbase-exchange", "GET /accounts", HMACSHA256,
			"CB-ACCESS-KEY: KEY|CB-ACCESS-SIGN: U0lH|CB-ACCESS-TIMESTAMP: 1700000000|CB-ACCESS-PASSPHRASE: PASS"},
		{"tokenmetrics", "GET /v2/tokens", None, "x-api-key: KEY"},
	}
	for _, test := range tests {
		_, signed := finish(t, test.venue, test.request, test.algorithm)
		var got []string
		for _, f := range signed.Header {
			got = append(got, f.Name+": "+string(f.Value))
		}
		if joined := strings.Join(got, "|"); joined != test.want {
			t.Errorf("%s %s:\n%s\nwant\n%s", test.venue, test.request, joined, test.want)
		}
		signed.Wipe()
		for _, f := range signed.Header {
			if strings.Trim(string(f.Value), "\x00") != "" {
				t.Errorf("%s is not wiped", f.Name)
			}
		}
	}
}

func TestRenderEnvironment(t *testing.T) {
	v, _ := Builtin("okx")
	for env, want := range map[string]string{"production": "", "demo": "1", "testnet": "1"} {
		for _, path := range []string{"/api/v5/account/balance", "/api/v5/public/time"} {
			r, err := NewRequest("GET", "www.okx.com", path, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			call, err := v.Classify(&r)
			if err != nil {
				t.Fatal(err)
			}
			d, err := v.Render(&r, call, testAccess, testStamp, env)
			if err != nil {
				t.Fatal(err)
			}
			if got := headerOf(d.Finish(nil), "x-simulated-trading"); got != want {
				t.Errorf("%s %s: x-simulated-trading %q, want %q", env, path, got, want)
			}
		}
	}
	owned := strings.Join(v.AuthHeaders(), " ")
	if !strings.Contains(owned, "x-simulated-trading") || !strings.Contains(owned, "OK-ACCESS-SIGN") {
		t.Errorf("owned: %s", owned)
	}
}

func TestRenderRefuses(t *testing.T) {
	v, call, err := line(t, "binance", "GET /api/v3/account")
	if err != nil {
		t.Fatal(err)
	}
	r := lineRequest(t, v, "GET /api/v3/account")
	for _, test := range []struct {
		name   string
		access Access
		env    string
		want   fault.Reason
	}{
		{"host of another environment", testAccess, "testnet", fault.HostNotAllowed},
		{"unknown environment", testAccess, "moon", fault.HostNotAllowed},
		{"other algorithm", Access{APIKey: []byte("K"), Algorithm: ES256}, "production", fault.KeyUnsupported},
		{"line break in the API key", Access{APIKey: []byte("K\r\nX: y"), Algorithm: HMACSHA256}, "production", fault.KeyDamaged},
		{"API key that is no text", Access{APIKey: []byte{0xff}, Algorithm: HMACSHA256}, "production", fault.KeyDamaged},
	} {
		if _, err := v.Render(r, call, test.access, testStamp, test.env); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
}
