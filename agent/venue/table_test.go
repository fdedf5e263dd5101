package venue

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTable holds each entry to what the engine takes for granted.
func TestTable(t *testing.T) {
	operations := []Operation{Read, Trade, Cancel, Settings, Transfer, Withdraw, Admin, Session, Public}
	for _, v := range builtins() {
		t.Run(v.name, func(t *testing.T) {
			for i := range v.rows {
				r := &v.rows[i]
				if !slices.Contains(operations, r.op) {
					t.Errorf("%s: unknown operation %q", r.line, r.op)
				}
				sample := strings.TrimSuffix(r.path, "*")
				for strings.Contains(sample, "{") {
					before, rest, _ := strings.Cut(sample, "{")
					_, after, _ := strings.Cut(rest, "}")
					sample = before + "anything-else" + after
				}
				if _, err := NewRequest(r.method, "api.example.com", sample, "", nil); err != nil {
					t.Errorf("%s: %v", r.line, err)
				}
				if found, err := v.row(r.method, sample); found != r || err != nil {
					t.Errorf("%s: its requests find %v", r.line, found)
				}
				if r.op == Session && len(r.grants) == 0 {
					t.Errorf("%s: a session that doesn't say what it grants", r.line)
				}
				checkShape(t, r)
			}
			if len(v.Hosts("production")) == 0 {
				t.Error("no production hosts")
			}
			if v.message != nil && v.covered.loose == "" && v.covered.path != true {
				t.Error("bound without its path")
			}
		})
	}
}

// checkShape: what a shape reads must be listed, or an order that carries it is refused.
func checkShape(t *testing.T, r *row) {
	t.Helper()
	if r.shape == nil {
		return
	}
	s := r.shape
	listed := r.parameters
	if s.list != "" {
		if s.list != "*" && !r.parameters[s.list].object {
			t.Errorf("%s: its batch %s is not listed with {}", r.line, s.list)
		}
		listed = s.items
	}
	names := []string{s.symbol, s.side, s.kind, s.quantity, s.quote, s.price, s.client, s.asset, s.network, s.address, s.tag}
	for _, name := range append(names, strings.Fields(s.names)...) {
		_, inItem := listed[name]
		_, around := r.parameters[name]
		if name != "" && !inItem && !around {
			t.Errorf("%s: reads %s, which it doesn't list", r.line, name)
		}
	}
	if r.op == Cancel && !r.exact && s.names == "" && !strings.Contains(r.path, "{") {
		t.Errorf("%s: a cancel that neither names orders nor needs an exact line", r.line)
	}
}

// TestMovesFunds: what moves funds, or rights to them, is never taken for anything else.
func TestMovesFunds(t *testing.T) {
	lines := map[string]string{
		"binance": `/sapi/v1/capital/withdraw/apply /sapi/v1/localentity/withdraw/apply /sapi/v1/asset/transfer /sapi/v1/asset/convert-transfer
			/sapi/v1/margin/transfer /sapi/v1/margin/isolated/transfer /sapi/v1/futures/transfer /sapi/v1/sub-account/margin/transfer
			/sapi/v1/sub-account/futures/transfer /sapi/v1/sub-account/futures/internalTransfer /sapi/v1/sub-account/transfer/subToSub
			/sapi/v1/sub-account/transfer/subToMaster /sapi/v1/sub-account/universalTransfer /sapi/v1/managed-subaccount/deposit
			/sapi/v1/managed-subaccount/withdraw /sapi/v1/broker/transfer /sapi/v1/broker/transfer/futures /sapi/v1/broker/universalTransfer
			/sapi/v1/portfolio/bnb-transfer /sapi/v1/portfolio/earn-asset-transfer /sapi/v1/account/enableFastWithdrawSwitch
			/sapi/v1/account/disableFastWithdrawSwitch /sapi/v1/giftcard/createCode /sapi/v1/pay/anything /papi/v1/bnb-transfer
			/sapi/v1/sub-account/virtualSubAccount /sapi/v1/broker/subAccountApi`,
		"kraken": `/0/private/Withdraw /0/private/WalletTransfer /0/private/AccountTransfer /0/private/WithdrawCancel /0/private/CreateSubaccount
			/0/private/Earn/Allocate /0/private/Earn/Deallocate /0/private/Stake /0/private/Unstake`,
		"coinbase-exchange": `/withdrawals/coinbase /withdrawals/coinbase-account /withdrawals/crypto /withdrawals/payment-method /withdrawals/counterparty
			/profiles/transfer /profiles/margin-transfer /coinbase-accounts/x/addresses /conversions /deposits/coinbase-account
			/deposits/payment-method /transfers/x/travel-rules /address-book /loans/open`,
		"coinbase-cdp": `/v2/accounts/x/transactions /v2/accounts/x/withdrawals /v2/accounts/x/withdrawals/y/commit /v2/accounts/x/addresses
			/api/v3/brokerage/portfolios/move_funds /api/v3/brokerage/convert/quote /api/v3/brokerage/convert/trade/x
			/api/v3/brokerage/intx/allocate /api/v3/brokerage/cfm/sweeps/schedule /api/v3/brokerage/portfolios`,
		"okx": `/api/v5/asset/withdrawal /api/v5/asset/withdrawal-lightning /api/v5/asset/transfer /api/v5/asset/subaccount/transfer
			/api/v5/asset/cancel-withdrawal /api/v5/fiat/create-withdrawal /api/v5/users/subaccount/set-transfer-out
			/api/v5/tradingBot/grid/withdraw-income /api/v5/asset/convert/trade /api/v5/finance/savings/purchase-redempt
			/api/v5/users/subaccount/apikey /api/v5/users/subaccount/modify-apikey /api/v5/users/subaccount/delete-apikey`,
		"bybit": `/v5/asset/withdraw/create /v5/asset/withdraw/cancel /v5/asset/transfer/inter-transfer /v5/asset/transfer/universal-transfer
			/v5/asset/transfer/save-transfer-sub-member /v5/asset/deposit/deposit-to-account /v5/asset/exchange/convert-execute
			/v5/asset/covert/small-balance-execute /v5/fiat/trade-execute /v5/earn/place-order /v5/crypto-loan/borrow
			/v5/spot-margin-trade/fixedborrow /asset/v3/private/withdraw/create /v5/user/create-sub-api /v5/user/update-api
			/v5/user/update-sub-api /v5/user/delete-api /v5/user/delete-sub-api`,
	}
	for name, paths := range lines {
		v, _ := Builtin(name)
		for path := range strings.FieldsSeq(paths) {
			switch r, _ := v.row("POST", path); {
			case r == nil: // unknown: only an exact line of a role grants it
			case r.op != Withdraw && r.op != Transfer && r.op != Admin:
				t.Errorf("%s: POST %s is %s", name, path, r.op)
			}
		}
	}
}

// TestPublic: what a stock bot asks for before it has done anything.
func TestPublic(t *testing.T) {
	lines := map[string]string{
		"binance": `/api/v3/ping /api/v3/time /api/v3/exchangeInfo /api/v3/depth /api/v3/trades /api/v3/aggTrades /api/v3/klines /api/v3/ticker/24hr
			/api/v3/ticker/price /api/v3/ticker/bookTicker /fapi/v1/time /fapi/v1/exchangeInfo /fapi/v1/depth /fapi/v1/klines /fapi/v1/premiumIndex`,
		"kraken": "/0/public/Time /0/public/SystemStatus /0/public/Assets /0/public/AssetPairs /0/public/Ticker /0/public/Depth /0/public/OHLC /0/public/Trades",
		"coinbase-exchange": `/time /products /products/BTC-USD /products/BTC-USD/book /products/BTC-USD/ticker /products/BTC-USD/trades
			/products/BTC-USD/candles /products/BTC-USD/stats /currencies`,
		"coinbase-cdp": `/api/v3/brokerage/time /api/v3/brokerage/market/products /api/v3/brokerage/market/products/BTC-USD
			/api/v3/brokerage/market/product_book /api/v3/brokerage/market/products/BTC-USD/candles /v2/currencies /v2/exchange-rates`,
		"okx":   "/api/v5/public/time /api/v5/public/instruments /api/v5/market/tickers /api/v5/market/books /api/v5/market/candles /api/v5/market/trades",
		"bybit": "/v5/market/time /v5/market/instruments-info /v5/market/tickers /v5/market/orderbook /v5/market/kline /v5/market/recent-trade",
	}
	for name, paths := range lines {
		v, _ := Builtin(name)
		for path := range strings.FieldsSeq(paths) {
			if r, _ := v.row("GET", path); r == nil || r.op != Public {
				t.Errorf("%s: GET %s is no public row", name, path)
			}
		}
	}
}

func TestClock(t *testing.T) {
	tests := []struct {
		venue, host, path, answer string
		want                      time.Time
		precision                 time.Duration
	}{
		{"binance", "api.binance.com", "/api/v3/time", `{"serverTime":1700000000123}`, time.UnixMilli(1700000000123), time.Millisecond},
		{"binance", "fapi.binance.com", "/fapi/v1/time", `{"serverTime":1700000000123}`, time.UnixMilli(1700000000123), time.Millisecond},
		{"kraken", "api.kraken.com", "/0/public/Time", `{"error":[],"result":{"unixtime":1700000000,"rfc1123":"x"}}`, time.Unix(1700000000, 0), time.Second},
		{"coinbase-exchange", "api.exchange.coinbase.com", "/time", `{"iso":"2023-11-14T22:13:20.123Z","epoch":1700000000.123}`, time.UnixMilli(1700000000123), time.Millisecond},
		{"coinbase-cdp", "api.coinbase.com", "/api/v3/brokerage/time", `{"iso":"x","epochSeconds":"1700000000","epochMillis":"1700000000123"}`, time.UnixMilli(1700000000123), time.Millisecond},
		{"okx", "www.okx.com", "/api/v5/public/time", `{"code":"0","data":[{"ts":"1700000000123"}],"msg":""}`, time.UnixMilli(1700000000123), time.Millisecond},
		{"bybit", "api.bybit.com", "/v5/market/time", `{"retCode":0,"result":{"timeSecond":"1"},"time":1700000000123}`, time.UnixMilli(1700000000123), time.Millisecond},
	}
	for _, test := range tests {
		v, _ := Builtin(test.venue)
		if path := v.TimePath(test.host); path != test.path {
			t.Errorf("%s: time at %q, want %q", test.venue, path, test.path)
		}
		at, precision, err := v.ParseTime([]byte(test.answer))
		if err != nil || !at.Equal(test.want) || precision != test.precision {
			t.Errorf("%s: %v, %v, %v", test.venue, at, precision, err)
		}
		for _, answer := range []string{"", "{}", "[]", `{"serverTime":"x"}`, `{"serverTime":-1}`, `{"data":[]}`, "<html>"} {
			if at, _, err := v.ParseTime([]byte(answer)); err == nil {
				t.Errorf("%s: %s is read as %v", test.venue, answer, at)
			}
		}
	}
	if v, _ := Builtin("tokenmetrics"); v.TimePath("api.tokenmetrics.com") != "" {
		t.Error("tokenmetrics has a clock")
	}
}

func TestBuiltin(t *testing.T) {
	want := []string{"binance", "kraken", "coinbase-exchange", "coinbase-cdp", "okx", "bybit", "tokenmetrics"}
	for _, name := range want {
		v, ok := Builtin(name)
		if !ok || v.Name() != name || len(v.Algorithms()) == 0 {
			t.Errorf("%s: %v", name, v)
		}
	}
	if got := Names(); len(got) != len(want) {
		t.Errorf("names: %v", got)
	}
	if _, ok := Builtin("nowhere"); ok {
		t.Error("found a venue that isn't there")
	}
	v, _ := Builtin("binance")
	if got := v.Generated(); !slices.Equal(got, []Algorithm{RSASHA256, Ed25519}) {
		t.Errorf("generated: %v", got)
	}
	if page, err := url.Parse(v.Register(RSASHA256)); err != nil || page.Scheme != "https" || v.Register(HMACSHA256) != "" {
		t.Errorf("register: %v, %v", page, err)
	}
	okx, _ := Builtin("okx")
	if v.KeyAPI() != "" || !strings.Contains(okx.KeyAPI(), "delete-apikey") {
		t.Errorf("the APIs that make keys: %q, %q", v.KeyAPI(), okx.KeyAPI())
	}
}

func TestWithHosts(t *testing.T) {
	v, _ := Builtin("binance")
	moved, err := v.WithHosts(map[string][]string{"testnet": {"127.0.0.1:9443"}, "lab": {"LAB.example.com:443"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := moved.Hosts("testnet"); !slices.Equal(got, []string{"127.0.0.1:9443"}) {
		t.Errorf("testnet: %v", got)
	}
	if got := moved.Hosts("lab"); !slices.Equal(got, []string{"lab.example.com"}) {
		t.Errorf("lab: %v", got)
	}
	if !slices.Equal(moved.Hosts("production"), v.Hosts("production")) || slices.Contains(v.Environments(), "lab") {
		t.Error("other environments, or the built-in venue, changed")
	}
	if path := moved.TimePath("127.0.0.1:9443"); path != "/api/v3/time" {
		t.Errorf("time at %q", path)
	}
	for _, path := range []string{"/api/v3/order", "/fapi/v1/order"} { // its hosts serve all rows
		r, err := NewRequest("POST", "127.0.0.1:9443", path, "", []byte("symbol=A&side=BUY"))
		if err != nil {
			t.Fatal(err)
		}
		if call, err := moved.Classify(&r); err != nil || call.Effects[0].Operation != Trade {
			t.Errorf("%s: %+v, %v", path, call, err)
		}
	}
	for _, hosts := range [][]string{nil, {"a b"}, {"https://a.example"}, {"a.example/x"}, {"a.example", "A.example"}, {""}} {
		if _, err := v.WithHosts(map[string][]string{"testnet": hosts}); err == nil {
			t.Errorf("took %q", hosts)
		}
	}
}
