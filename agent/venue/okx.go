package venue

import (
	"slices"
	"strings"
	"time"
)

// okx is OKX v5 (https://www.okx.com/docs-v5/en/#overview-rest-authentication).
// A demo account lives on the same hosts, told apart by a header.
func okx() *Venue {
	hosts := []host{{name: "www.okx.com"}, {name: "aws.okx.com"}, {name: "my.okx.com"}, {name: "app.okx.com"}}
	demo := environment{
		hosts:   hosts,
		header:  []headerField{{"x-simulated-trading", must("1")}},
		sockets: map[string]string{"private": "wss://wspap.okx.com:8443/ws/v5/private", "business": "wss://wspap.okx.com:8443/ws/v5/business"},
	}
	testnet := demo // its name elsewhere, so that one environment can span venues
	demo.name, testnet.name = "demo", "testnet"
	return &Venue{
		name: "okx",
		environments: []environment{{
			name:    "production",
			hosts:   hosts,
			sockets: map[string]string{"private": "wss://ws.okx.com:8443/ws/v5/private", "business": "wss://ws.okx.com:8443/ws/v5/business"},
		}, demo, testnet},
		signs:   []signing{{algorithm: HMACSHA256, encoding: inBase64}},
		secret:  "raw",
		message: must("{timestamp_iso_ms}{method}{path}{?query}{body}"),
		header: []headerField{
			{"OK-ACCESS-KEY", must("{api_key}")},
			{"OK-ACCESS-SIGN", must("{signature}")},
			{"OK-ACCESS-TIMESTAMP", must("{timestamp_iso_ms}")},
			{"OK-ACCESS-PASSPHRASE", must("{passphrase}")},
		},
		bodies: []bodyKind{jsonBody},
		keyAPI: "POST /api/v5/users/subaccount/apikey and delete-apikey, for sub-accounts",
		clock:  clock{path: "/api/v5/public/time", answer: []string{"data", "0", "ts"}, tick: time.Millisecond},
		rows:   slices.Concat(okxReads(), okxOrders(), okxSettings(), okxFunds()),
		// The login doesn't say which of the two sockets it is for, so both can do the same.
		logins: []login{okxLogin("private"), okxLogin("business")},
		probes: []probe{{"GET /api/v5/account/config", okxRights}},
		// https://www.okx.com/docs-v5/en/#error-code-rest-api; 50102 and 50112 are of the clock.
		refuses: refusals{
			statuses: []int{unauthorized}, code: []string{"code"},
			codes: []string{"50101", "50105", "50110", "50111", "50113", "50114", "50119", "50120"}, others: []string{"50102", "50107", "50112"},
		},
	}
}

// okxRights reads https://www.okx.com/docs-v5/en/#trading-account-rest-api-get-account-configuration:
// perm is "read_only,trade,withdraw", ip the addresses with commas between them.
func okxRights(answer any) Rights {
	account := find(answer, "data", "0")
	perm, isText := find(account, "perm").(string)
	if !isText {
		return Rights{}
	}
	withdraw := slices.Contains(strings.Split(perm, ","), "withdraw")
	limited := text(find(account, "ip")) != ""
	return Rights{Withdraw: &withdraw, IPList: &limited}
}

func okxLogin(channel string) login {
	return login{
		channel: channel,
		message: must("{timestamp_s}GET/users/self/verify"),
		frame:   must(`{"op":"login","args":[{"apiKey":"{api_key}","passphrase":"{passphrase}","timestamp":"{timestamp_s}","sign":"{signature}"}]}`),
		grants:  []Operation{Read, Trade, Cancel},
	}
}

func okxReads() []row {
	return slices.Concat(
		public("GET /api/v5/public/", "time instruments estimated-price delivery-exercise-history settlement-history funding-rate funding-rate-history"+
			" open-interest price-limit opt-summary discount-rate-interest-free-quota mark-price position-tiers interest-rate-loan-quota underlying"+
			" insurance-fund convert-contract-coin instrument-tick-bands premium-history option-trades block-trades economic-calendar"),
		public("GET /api/v5/market/", "tickers ticker books books-full books-lite candles history-candles trades history-trades"+
			" option/instrument-family-trades platform-24-volume block-tickers block-ticker index-tickers index-candles history-index-candles"+
			" mark-price-candles history-mark-price-candles exchange-rate index-components call-auction-details"),
		public("GET /api/v5/", "system/status support/announcements support/announcement-types rubik/stat/trading-data/support-coin"+
			" rubik/stat/taker-volume rubik/stat/contracts/long-short-account-ratio rubik/stat/contracts/open-interest-volume"+
			" rubik/stat/contracts/open-interest-history rubik/stat/margin/loan-ratio"),
		reads("GET /api/v5/account/", "instruments balance positions positions-history account-position-risk bills bills-archive config max-size"+
			" max-avail-size leverage-info adjust-leverage-info max-loan trade-fee interest-accrued interest-rate max-withdrawal risk-state"+
			" interest-limits greeks position-tiers spot-borrow-repay-history collateral-assets subtypes"),
		reads("GET /api/v5/trade/", "order orders-pending orders-history orders-history-archive fills fills-history order-algo orders-algo-pending"+
			" orders-algo-history account-rate-limit easy-convert-currency-list easy-convert-history"),
		reads("GET /api/v5/asset/", "currencies balances non-tradable-assets asset-valuation transfer-state bills bills-history deposit-address"+
			" deposit-history withdrawal-history deposit-withdraw-status convert/currencies convert/currency-pair convert/history"+
			" subaccount/balances subaccount/bills"),
		reads("GET /api/v5/", "account/subaccount/balances users/subaccount/list finance/savings/balance finance/savings/lending-history"+
			" finance/staking-defi/orders-active finance/staking-defi/orders-history"),
	)
}

func okxOrders() []row {
	// ccy and quickMgnType borrow, tradeQuoteCcy, pxUsd and pxVol change a unit, attachAlgoOrds attaches orders: not listed.
	const order = "instId tdMode clOrdId tag side posSide ordType sz px reduceOnly tgtCcy=base_ccy|quote_ccy banAmend stpMode pxAmendType"
	const change = "instId cxlOnFail ordId clOrdId reqId newSz newPx pxAmendType"
	const algo = "instId tdMode side posSide ordType sz tag tgtCcy=base_ccy|quote_ccy reduceOnly clOrdId algoClOrdId closeFraction cxlOnClosePos" +
		" tpTriggerPx tpTriggerPxType tpOrdPx slTriggerPx slTriggerPxType slOrdPx triggerPx triggerPxType orderPx callbackRatio callbackSpread activePx"
	fields := shape{symbol: "instId", side: "side", kind: "ordType", quantity: "sz", price: "px", client: "clOrdId", fix: okxSize}
	changed := shape{symbol: "instId", quantity: "newSz", price: "newPx", client: "clOrdId"}
	gone := shape{symbol: "instId", client: "clOrdId", names: "ordId clOrdId"}
	list := func(s shape, each string) *shape {
		s.list, s.each = "*", each
		return &s
	}
	return []row{
		{op: Trade, line: "POST /api/v5/trade/order", takes: order, shape: &fields},
		{op: Trade, line: "POST /api/v5/trade/batch-orders", shape: list(fields, order)},
		{op: Trade, line: "POST /api/v5/trade/order-precheck", takes: order, shape: &fields},
		{op: Trade, line: "POST /api/v5/trade/amend-order", takes: change, shape: &changed},
		{op: Trade, line: "POST /api/v5/trade/amend-batch-orders", shape: list(changed, change)},
		{
			op: Trade, line: "POST /api/v5/trade/order-algo", takes: algo,
			shape: &shape{symbol: "instId", side: "side", kind: "ordType", quantity: "sz", price: "orderPx", client: "algoClOrdId", fix: okxSize},
		},
		{
			op: Trade, line: "POST /api/v5/trade/close-position", takes: "instId posSide mgnMode autoCxl clOrdId tag",
			shape: &shape{symbol: "instId", client: "clOrdId"},
		},
		{op: Cancel, line: "POST /api/v5/trade/cancel-order", takes: "instId ordId clOrdId", shape: &gone},
		{op: Cancel, line: "POST /api/v5/trade/cancel-batch-orders", shape: list(gone, "instId ordId clOrdId")},
		{
			op: Cancel, line: "POST /api/v5/trade/cancel-algos",
			shape: list(shape{symbol: "instId", client: "algoClOrdId", names: "algoId algoClOrdId"}, "instId algoId algoClOrdId"),
		},
		{op: Cancel, line: "POST /api/v5/trade/mass-cancel", takes: "instType instFamily lockInterval", exact: true},
		{op: Cancel, line: "POST /api/v5/trade/cancel-all-after", takes: "timeOut tag", exact: true},
	}
}

// okxSize reads the unit of sz. That of a spot market order is the base currency
// or, for a buy that doesn't say, the quote currency. A spot order in a margin
// mode borrows, and is refused.
func okxSize(e *Effect, item, _ fields) error {
	spot := strings.Count(e.Symbol, "-") == 1
	if mode := item.get("tdMode"); spot && mode != nil && mode.text != "cash" && mode.text != "spot_isolated" {
		return bad("a spot order in a margin mode can borrow, which can't be judged").WithHint(`send "tdMode": "cash"`)
	}
	market := spot && e.Type == "market"
	for _, name := range [...]string{"orderPx", "tpOrdPx", "slOrdPx"} {
		if p := item.get(name); p != nil && spot && p.text == "-1" { // a market order once triggered
			market = true
		}
	}
	unit := item.get("tgtCcy")
	switch {
	case unit != nil && unit.text == "quote_ccy" && !market:
		return bad("tgtCcy counts for spot market orders only")
	case unit != nil && unit.text == "quote_ccy", unit == nil && market && e.Side == "buy":
		e.Quantity, e.QuoteQuantity = "", e.Quantity
	}
	if e.Price == "" {
		for _, name := range [...]string{"slOrdPx", "tpOrdPx"} {
			if p := item.get(name); p != nil && p.text != "-1" {
				e.Price = p.text
			}
		}
	}
	if e.Price == "-1" {
		e.Price = ""
	}
	return nil
}

func okxSettings() []row {
	symbol := &shape{symbol: "instId"}
	return []row{
		{op: Settings, line: "POST /api/v5/account/set-leverage", takes: "instId ccy lever mgnMode posSide", shape: symbol},
		{
			op: Settings, line: "POST /api/v5/account/position/margin-balance", takes: "instId posSide type amt ccy",
			shape: &shape{symbol: "instId", quantity: "amt"},
		},
		{op: Settings, line: "POST /api/v5/account/set-position-mode", takes: "posMode"},
		{op: Settings, line: "POST /api/v5/account/set-isolated-mode", takes: "isoMode type"},
		{op: Settings, line: "POST /api/v5/account/set-greeks", takes: "greeksType"},
		{op: Settings, line: "POST /api/v5/account/set-account-level", takes: "acctLv"},
		{op: Settings, line: "POST /api/v5/account/set-fee-type", takes: "feeType"},
	}
}

// okxFunds moves funds or keys. Conversions, loans, earn and trading bots are unknown.
func okxFunds() []row {
	const keys = "/api/v5/users/subaccount/"
	return []row{
		{
			op: Withdraw, line: "POST /api/v5/asset/withdrawal",
			takes: "ccy! amt! dest! toAddr! chain fee toAddrType walletType areaCode clientId rcvrInfo{}",
			shape: &shape{asset: "ccy", quantity: "amt", network: "chain", address: "toAddr", client: "clientId"},
		},
		{
			op: Withdraw, line: "POST /api/v5/asset/withdrawal-lightning", takes: "ccy! invoice! memo rcvrInfo{}",
			shape: &shape{asset: "ccy", address: "invoice", tag: "memo"},
		},
		{
			op: Withdraw, line: "POST /api/v5/fiat/create-withdrawal", takes: "paymentAcctId! ccy! amt! paymentMethod! clientId!",
			shape: &shape{asset: "ccy", quantity: "amt", address: "paymentAcctId", client: "clientId"},
		},
		{
			op: Transfer, line: "POST /api/v5/asset/transfer", takes: "ccy! amt! from! to! subAcct type loanTrans omitPosRisk clientId",
			shape: &shape{asset: "ccy", quantity: "amt", address: "subAcct", client: "clientId"},
		},
		{
			op: Transfer, line: "POST /api/v5/asset/subaccount/transfer",
			takes: "ccy! amt! from! to! fromSubAccount! toSubAccount! loanTrans omitPosRisk",
			shape: &shape{asset: "ccy", quantity: "amt", address: "toSubAccount"},
		},
		{op: Transfer, line: "POST /api/v5/asset/cancel-withdrawal", takes: "wdId!"},
		{op: Transfer, line: "POST /api/v5/tradingBot/grid/withdraw-income", takes: "algoId!"},
		{op: Admin, line: "POST " + keys + "set-transfer-out", takes: "subAcct canTransOut"},
		{op: Admin, line: "POST " + keys + "create-subaccount", takes: "subAcct type label pwd"},
		{op: Admin, line: "POST " + keys + "apikey", takes: "subAcct label passphrase perm ip"},
		{op: Admin, line: "POST " + keys + "modify-apikey", takes: "subAcct apiKey label perm ip"},
		{op: Admin, line: "POST " + keys + "delete-apikey", takes: "subAcct apiKey"},
	}
}
