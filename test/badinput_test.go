//go:build integration

package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/daemontest"
	"github.com/sealsign/sealsign/internal/mockvenue"
)

// traders are keys of five venues, and a caller that may trade one symbol of each.
func traders() string {
	text := fmt.Sprintf("[callers.me]\nuid = %d\nroles = [\"all\"]\n", os.Getuid()) + `
[roles.all]
keys = ["acme", "binance", "coinbase-cdp", "kraken", "okx"]
allow = ["read", "trade", "cancel"]
symbols = ["BTCUSDT", "BTC-USDT", "BTC-USD", "XBTUSD"]
release = "bound"
`
	for name, algorithm := range traderAlgorithms {
		text += fmt.Sprintf("[keys.%s]\nvenue = %q\nalgorithm = %q\nenvironment = \"testnet\"\nprobe = \"off\"\n", name, name, algorithm)
	}
	return text
}

var traderAlgorithms = map[string]string{
	"acme": "hmac-sha256", "binance": "hmac-sha256", "coinbase-cdp": "es256", "kraken": "hmac-sha512", "okx": "hmac-sha256",
}

func startTraders(t *testing.T) *daemontest.Daemon {
	t.Helper()
	d := daemontest.Start(t, traders())
	for name, algorithm := range traderAlgorithms {
		d.Import(name, d.Venues.Credential(name, algorithm))
	}
	return d
}

// request is one that a program may send over either socket.
type request struct {
	key, host    string
	method, path string
	header       http.Header
	body         string
}

// forward writes the request to http.sock as it is, byte for byte, and reads the answer.
func (r request) forward(t *testing.T, d *daemontest.Daemon) (status int, reason, sent string) {
	t.Helper()
	conn, err := net.Dial("unix", filepath.Join(d.Run, "http.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nSealsign-Key: %s\r\n", r.method, r.path, r.host, r.key)
	for name, values := range r.header {
		text += name + ": " + values[0] + "\r\n"
	}
	if r.body != "" || r.method != http.MethodGet {
		text += fmt.Sprintf("Content-Length: %d\r\n", len(r.body))
	}
	if _, err := io.WriteString(conn, text+"\r\n"+r.body); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Sealsign-Reason"), response.Header.Get("Sealsign-Sent")
}

// release asks agent.sock for the signed request.
func (r request) release(t *testing.T, agent *client.Client) (*client.Signed, error) {
	t.Helper()
	return agent.Sign(t.Context(), &client.Request{Key: r.key, Method: r.method, URL: "https://" + r.host + r.path, Header: r.header, Body: []byte(r.body)})
}

// badRequests are requests that could mean more than they seem to, each with the
// one thing that is wrong. What is wrong with their framing is for the tests of agent/server.
func badRequests(d *daemontest.Daemon) map[string]struct {
	request
	reason client.Reason
} {
	type row = struct {
		request
		reason client.Reason
	}
	at := func(key, line, body string) request {
		method, path, _ := strings.Cut(line, " ")
		return request{key: key, host: d.Venues.Host(key), method: method, path: path, body: body}
	}
	binance := func(parameters string) request { return at("binance", "POST /api/v3/order?"+parameters, "") }
	okx := func(body string) request { return at("okx", "POST /api/v5/trade/order", body) }
	batch := func(body string) request { return at("okx", "POST /api/v5/trade/batch-orders", body) }
	with := func(r request, name, value string) request { r.header = http.Header{name: {value}}; return r }
	other := func(r request, host string) request { r.host = host; return r }
	futures := func(orders string) request { return at("binance", "POST /fapi/v1/batchOrders?batchOrders="+orders, "") }
	const good = `"tdMode":"cash","side":"buy","ordType":"limit","px":"1","sz":"1"`
	const order = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=1"
	return map[string]row{
		"a host of another key":        {other(at("okx", "GET /api/v5/account/balance", ""), d.Venues.Host("binance")), client.HostNotAllowed},
		"a host of no key":             {other(at("okx", "GET /api/v5/account/balance", ""), "api.example"), client.HostNotAllowed},
		"a host that only ends so":     {other(at("okx", "GET /api/v5/account/balance", ""), "x"+d.Venues.Host("okx")), client.HostNotAllowed},
		"the agent's parameter twice":  {binance(order + "&timestamp=1&timestamp=2"), client.BadRequest},
		"in query and body":            {at("binance", "POST /api/v3/order?"+order, "symbol=ETHUSDT"), client.BadRequest},
		"in query and body, encoded":   {at("binance", "POST /api/v3/order?"+order, "s%79mbol=ETHUSDT"), client.BadRequest},
		"a symbol in other case":       {binance(order + "&SYMBOL=ETHUSDT"), client.BadRequest},
		"a symbol as a list":           {binance(order + "&symbol%5B%5D=ETHUSDT"), client.BadRequest},
		"a parameter of no row":        {binance(order + "&sideEffectType=MARGIN_BUY"), client.BadRequest},
		"invalid UTF-8, encoded":       {binance(order + "&newClientOrderId=%ff"), client.BadRequest},
		"a NUL, encoded":               {binance(order + "&newClientOrderId=a%00b"), client.BadRequest},
		"another symbol":               {binance(strings.Replace(order, "BTC", "ETH", 1)), client.SymbolNotGranted},
		"another symbol, encoded":      {binance(strings.Replace(order, "BTC", "%45TH", 1)), client.SymbolNotGranted},
		"no symbol":                    {okx(`{` + good + `}`), client.SymbolNotGranted},
		"a symbol that is a number":    {okx(`{"instId":1,` + good + `}`), client.BadRequest},
		"a symbol that is null":        {okx(`{"instId":null,` + good + `}`), client.BadRequest},
		"a symbol that is an array":    {okx(`{"instId":["BTC-USDT"],` + good + `}`), client.BadRequest},
		"a symbol that is an object":   {okx(`{"instId":{"a":"BTC-USDT"},` + good + `}`), client.BadRequest},
		"a JSON key twice":             {okx(`{"instId":"BTC-USDT","instId":"ETH-USDT",` + good + `}`), client.BadRequest},
		"a JSON key in other case":     {okx(`{"instId":"BTC-USDT","instid":"ETH-USDT",` + good + `}`), client.BadRequest},
		"a JSON key escaped":           {okx(`{"instId":"BTC-USDT","inst\u0049d":"ETH-USDT",` + good + `}`), client.BadRequest},
		"a number that loses digits":   {okx(`{"instId":"BTC-USDT","sz":0.1000000000000000055511151231257827,"tdMode":"cash","side":"buy","ordType":"limit","px":"1"}`), client.BadRequest},
		"more after the JSON":          {okx(`{"instId":"BTC-USDT",` + good + `}{}`), client.BadRequest},
		"JSON that is cut off":         {okx(`{"instId":"BTC-USDT",` + good), client.BadRequest},
		"invalid UTF-8 in JSON":        {okx(`{"instId":"BTC-USDT","clOrdId":"` + "\xff" + `",` + good + `}`), client.BadRequest},
		"half a surrogate in JSON":     {okx(`{"instId":"BTC-USDT","clOrdId":"\ud800",` + good + `}`), client.BadRequest},
		"deep JSON":                    {okx(strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)), client.BadRequest},
		"a list for one order":         {okx(`[{"instId":"BTC-USDT",` + good + `}]`), client.BadRequest},
		"a form for JSON":              {with(okx("instId=BTC-USDT&side=buy"), "Content-Type", "application/x-www-form-urlencoded"), client.BadRequest},
		"a body of a type of its own":  {with(okx(`{"instId":"BTC-USDT",`+good+`}`), "Content-Type", "text/plain"), client.BadRequest},
		"a compressed body":            {with(okx("\x1f\x8b\x08\x00"), "Content-Encoding", "gzip"), client.BadRequest},
		"one bad order of a batch":     {batch(`[{"instId":"BTC-USDT",` + good + `},{"instId":"ETH-USDT",` + good + `}]`), client.SymbolNotGranted},
		"an order that is none":        {batch(`[{"instId":"BTC-USDT",` + good + `},"x"]`), client.BadRequest},
		"an empty batch":               {batch(`[]`), client.BadRequest},
		"a batch in a parameter":       {futures(`%5B%7B%22symbol%22%3A%22ETHUSDT%22%2C%22side%22%3A%22BUY%22%2C%22type%22%3A%22MARKET%22%2C%22quantity%22%3A%221%22%7D%5D`), client.SymbolNotGranted},
		"a key twice in one of these":  {futures(`%5B%7B%22symbol%22%3A%22BTCUSDT%22%2C%22symbol%22%3A%22ETHUSDT%22%7D%5D`), client.BadRequest},
		"a parameter that isn't JSON":  {futures(`%5B%7B%22symbol%22`), client.BadRequest},
		"an operation that isn't mine": {at("kraken", "POST /0/private/Withdraw", "asset=XBT&key=mine&amount=1"), client.OperationNotGranted},
		"a path of no row":             {at("kraken", "POST /0/private/Unheard", ""), client.OperationNotGranted},
		"another method":               {at("okx", "DELETE /api/v5/trade/order", ""), client.OperationNotGranted},
		"a leveraged order":            {at("kraken", "POST /0/private/AddOrder", "ordertype=limit&type=buy&pair=XBTUSD&volume=1&price=1&leverage=5"), client.BadRequest},
		"an order that attaches one":   {at("kraken", "POST /0/private/AddOrder", "ordertype=limit&type=buy&pair=XBTUSD&volume=1&price=1&close%5Bordertype%5D=limit"), client.BadRequest},
	}
}

// Each bad request is refused on both sockets for its reason, nothing of it
// reaches a venue, and it is in the log.
func TestBadInput(t *testing.T) {
	d := startTraders(t)
	agent, err := client.Dial(d.Run)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = agent.Close() }()
	statuses := map[client.Reason]int{client.BadRequest: 400, client.HostNotAllowed: 422, client.SymbolNotGranted: 422, client.OperationNotGranted: 422}
	want := make(map[string]int)
	for name, test := range badRequests(d) {
		t.Run(name, func(t *testing.T) {
			status, reason, sent := test.forward(t, d)
			if status != statuses[test.reason] || reason != string(test.reason) || sent != "no" {
				t.Errorf("http.sock answers %d %s, sent %q, want %s", status, reason, sent, test.reason)
			}
			want[string(test.reason)]++
			if signed, err := test.release(t, agent); !errors.Is(err, test.reason) {
				t.Errorf("agent.sock answers %v, %v, want %s", signed, err, test.reason)
			}
			want[string(test.reason)]++
		})
	}
	for _, venue := range mockvenue.Venues() {
		for _, a := range d.Venues.Arrivals(venue) {
			if a.Kind != mockvenue.Public {
				t.Errorf("at %s arrived %s %s", venue, a.Method, a.Path)
			}
		}
	}
	var got map[string]int
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		got = make(map[string]int)
		for _, r := range d.Records() {
			if r["decision"] == "deny" && r["caller"] == "me" {
				count, _ := r["count"].(float64)
				got[r["reason"].(string)] += max(1, int(count)) // repeated ones are merged into one
			}
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
	}
	t.Errorf("of refusals %v are in the log %v", want, got)
}

// What an app puts where the credential belongs is replaced, and all else arrives as it was.
func TestOwnCredentialsAreReplaced(t *testing.T) {
	d := startTraders(t)
	header := func(pairs ...string) http.Header {
		h := make(http.Header)
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = []string{pairs[i+1]}
		}
		return h
	}
	const mine = "MINE0123456789"
	for name, test := range map[string]struct {
		request
		keeps string // of path, query or body
	}{
		"headers": {request{key: "okx", method: "GET", path: "/api/v5/account/balance?ccy=BTC", header: header(
			"OK-ACCESS-KEY", mine, "ok-access-sign", mine, "Ok-Access-Passphrase", mine, "OK-ACCESS-TIMESTAMP", mine, "x-simulated-trading", mine,
			"Authorization", mine, "Cookie", mine, "X-Forwarded-For", mine)}, "ccy=BTC"},
		"a query": {request{key: "binance", method: "POST", path: "/api/v3/order?symbol=BTCUSDT&timestamp=1&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1.0&price=1&signature=" + mine,
			header: header("x-mbx-apikey", mine)}, "quantity=1.0&price=1"},
		"a body": {request{key: "binance", method: "POST", path: "/api/v3/order", body: "signature=" + mine + "&symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1.0&price=1",
			header: header("Content-Type", "application/x-www-form-urlencoded")}, "quantity=1.0&price=1"},
		"a nonce": {request{key: "kraken", method: "POST", path: "/0/private/OpenOrders", body: "trades=true&nonce=99999999999999999999", header: header("API-Sign", mine)}, "trades=true"},
		"a nonce in JSON": {request{key: "kraken", method: "POST", path: "/0/private/OpenOrders", body: `{ "nonce" : 99999999999999, "trades":true}`,
			header: header("Content-Type", "application/json", "api-key", mine)}, `, "trades":true}`},
		"a token":           {request{key: "coinbase-cdp", method: "GET", path: "/api/v3/brokerage/accounts?limit=5", header: header("Authorization", "Bearer "+mine)}, "limit=5"},
		"a venue's of mine": {request{key: "acme", method: "GET", path: "/account?a=%7e", header: header("acme-sign", mine, "ACME-TIME", mine, "Acme-Key", mine)}, "a=%7e"},
	} {
		t.Run(name, func(t *testing.T) {
			d.Venues.Reset()
			test.host = d.Venues.Host(test.key)
			if status, reason, _ := test.forward(t, d); status != 200 || reason != "" {
				t.Errorf("the answer is %d %s", status, reason)
			}
			found := false
			for _, a := range d.Venues.Arrivals(test.key) {
				if a.Kind == mockvenue.Public {
					continue
				}
				found = true
				var all bytes.Buffer
				fmt.Fprintf(&all, "%s?%s\n%v\n%s", a.Path, a.Query, a.Header, a.Body)
				if a.Problem != "" || bytes.Contains(all.Bytes(), []byte(mine)) || !strings.Contains(a.Path+"?"+a.Query+"\n"+string(a.Body), test.keeps) {
					t.Errorf("at the venue arrived %s: %s", &all, a.Problem)
				}
			}
			if !found {
				t.Error("nothing arrived")
			}
		})
	}
}
