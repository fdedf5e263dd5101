package venue

import (
	"slices"
	"strings"
	"time"
)

// bybit is Bybit v5 (https://bybit-exchange.github.io/docs/v5/guide#authentication).
// The message is the query of a GET or the body of a POST; it covers neither
// method nor path, so a signature fits every endpoint that takes its parameters.
// One symbol can name a spot pair and a contract: BTCUSDT is both.
func bybit() *Venue {
	sockets := func(hostname string) map[string]string {
		return map[string]string{"private": "wss://" + hostname + "/v5/private", "trade": "wss://" + hostname + "/v5/trade"}
	}
	var production []host
	for _, name := range []string{
		"api.bybit.com", "api.bytick.com", "api.bybit.nl", "api.bybit-tr.com", "api.bybit.kz", "api.bybit.eu", "api.bybitgeorgia.ge",
		"api.bybit.ae", "api.bybit.id", "api.manepa.jp",
	} {
		production = append(production, host{name: name})
	}
	return &Venue{
		name: "bybit",
		environments: []environment{
			{name: "production", hosts: production, sockets: sockets("stream.bybit.com")},
			{name: "testnet", hosts: []host{{name: "api-testnet.bybit.com"}}, sockets: sockets("stream-testnet.bybit.com")},
			{name: "demo", hosts: []host{{name: "api-demo.bybit.com"}}, sockets: sockets("stream-demo.bybit.com")},
		},
		signs: []signing{
			{algorithm: HMACSHA256, encoding: inHex},
			{algorithm: RSASHA256, encoding: inBase64, register: "https://www.bybit.com/app/user/api-management"},
		},
		secret:  "raw",
		message: must("{timestamp_ms}{api_key}" + bybitWindow + "{query}{body}"),
		header: []headerField{
			{"X-BAPI-API-KEY", must("{api_key}")},
			{"X-BAPI-TIMESTAMP", must("{timestamp_ms}")},
			{"X-BAPI-RECV-WINDOW", must(bybitWindow)},
			{"X-BAPI-SIGN", must("{signature}")},
		},
		bodies: []bodyKind{jsonBody},
		keyAPI: "POST /v5/user/create-sub-api and delete-sub-api, for sub-accounts",
		passes: []string{"Referer"}, // the broker's mark
		clock:  clock{path: "/v5/market/time", answer: []string{"time"}, tick: time.Millisecond},
		rows:   slices.Concat(bybitReads(), bybitOrders(), bybitSettings(), bybitFunds()),
		// The login doesn't say which of the two sockets it is for, so both can do the same.
		logins: []login{bybitLogin("private"), bybitLogin("trade")},
		probes: []probe{{"GET /v5/user/query-api", bybitRights}},
		// https://bybit-exchange.github.io/docs/v5/error
		refuses: refusals{
			statuses: []int{unauthorized}, code: []string{"retCode"}, codes: []string{"10003", "10004", "10005", "10007", "10010", "33004"},
		},
	}
}

// bybitRights reads https://bybit-exchange.github.io/docs/v5/user/apikey-info.
// Only a key without an IP list has an end.
func bybitRights(answer any) Rights {
	expires, err := time.Parse(time.RFC3339, text(find(answer, "result", "expiredAt")))
	if err != nil || expires.Unix() <= 0 {
		expires = time.Time{}
	}
	return Rights{
		Withdraw: lists(find(answer, "result", "permissions", "Wallet"), "Withdraw"),
		IPList:   addressed(find(answer, "result", "ips")),
		Expires:  expires,
	}
}

// bybitWindow is for how many milliseconds a request is good: the venue's default.
const bybitWindow = "5000"

func bybitLogin(channel string) login {
	return login{
		channel: channel,
		message: must("GET/realtime{expires_ms}"),
		frame:   must(`{"op":"auth","args":["{api_key}","{expires_ms}","{signature}"]}`),
		grants:  []Operation{Read, Trade, Cancel},
	}
}

func bybitReads() []row {
	return slices.Concat(
		public("GET /v5/market/", "time kline mark-price-kline index-price-kline premium-index-price-kline instruments-info orderbook rpi_orderbook"+
			" tickers funding/history recent-trade open-interest historical-volatility insurance risk-limit delivery-price new-delivery-price"+
			" account-ratio index-price-components price-limit adlAlert fee-group-info"),
		public("GET /v5/", "announcements/index system/status spot-margin-trade/data spot-margin-trade/collateral"),
		reads("GET /v5/order/", "realtime history spot-borrow-check"),
		reads("GET /v5/execution/", "list"),
		reads("GET /v5/position/", "list closed-pnl get-closed-positions move-history symbol-info"),
		reads("GET /v5/account/", "wallet-balance info fee-rate transaction-log contract-transaction-log borrow-history collateral-info mmp-state"+
			" smp-group query-dcp-info withdrawal instruments-info option-asset-info user-setting-config"),
		reads("GET /v5/asset/", "coin/query-info coin-greeks delivery-record settlement-record exchange/order-record deposit/query-address"+
			" deposit/query-allowed-list deposit/query-record deposit/query-internal-record deposit/query-sub-member-record"+
			" transfer/query-account-coin-balance transfer/query-account-coins-balance transfer/query-asset-info transfer/query-inter-transfer-list"+
			" transfer/query-sub-member-list transfer/query-transfer-coin-list transfer/query-universal-transfer-list"+
			" withdraw/query-record withdraw/query-address withdraw/withdrawable-amount withdraw/vasp/list"),
		reads("GET /v5/user/", "query-api query-sub-members submembers sub-apikeys get-member-type"),
		reads("GET /v5/spot-margin-trade/", "state max-borrowable position-tiers interest-rate-history"),
	)
}

func bybitOrders() []row {
	// takeProfit, stopLoss and what belongs to them attach orders, orderIv changes the price: not listed.
	const item = "symbol side orderType qty price timeInForce orderLinkId marketUnit=baseCoin|quoteCoin isLeverage=0 triggerDirection triggerPrice" +
		" triggerBy orderFilter positionIdx reduceOnly closeOnTrigger smpType mmp slippageToleranceType slippageTolerance"
	const change = "symbol orderId orderLinkId triggerPrice triggerBy qty price"
	const gone = "symbol orderId orderLinkId orderFilter"
	fields := shape{symbol: "symbol", side: "side", kind: "orderType", quantity: "qty", price: "price", client: "orderLinkId", fix: bybitSize}
	changed := shape{symbol: "symbol", quantity: "qty", price: "price", client: "orderLinkId"}
	canceled := shape{symbol: "symbol", client: "orderLinkId", names: "orderId orderLinkId"}
	batch := func(s shape, each string) *shape {
		s.list, s.each = "request", each
		return &s
	}
	symbol := &shape{symbol: "symbol"}
	return []row{
		{op: Trade, line: "POST /v5/order/create", takes: "category " + item, shape: &fields},
		{op: Trade, line: "POST /v5/order/pre-check", takes: "category " + item, shape: &fields},
		{op: Trade, line: "POST /v5/order/create-batch", takes: "category request{}", shape: batch(fields, item)},
		{op: Trade, line: "POST /v5/order/amend", takes: "category " + change, shape: &changed},
		{op: Trade, line: "POST /v5/order/amend-batch", takes: "category request{}", shape: batch(changed, change)},
		{
			// It sets orders that close a position.
			op: Trade, line: "POST /v5/position/trading-stop", shape: symbol,
			takes: "category symbol tpslMode positionIdx takeProfit stopLoss trailingStop activePrice tpTriggerBy slTriggerBy tpSize slSize" +
				" tpLimitPrice slLimitPrice tpOrderType slOrderType",
		},
		{op: Cancel, line: "POST /v5/order/cancel", takes: "category " + gone, shape: &canceled},
		{op: Cancel, line: "POST /v5/order/cancel-batch", takes: "category request{}", shape: batch(canceled, gone)},
		{op: Cancel, line: "POST /v5/order/cancel-all", takes: "category symbol baseCoin settleCoin orderFilter stopOrderType", shape: symbol, exact: true},
		{op: Cancel, line: "POST /v5/order/disconnected-cancel-all", takes: "product timeWindow", exact: true},
	}
}

// bybitSize reads the unit of qty. That of a spot market order is what marketUnit
// says or, for a buy that doesn't say, the quote currency.
func bybitSize(e *Effect, item, around fields) error {
	category := around.get("category")
	if category == nil {
		category = item.get("category")
	}
	market := category != nil && category.text == "spot" && strings.EqualFold(e.Type, "market")
	unit := item.get("marketUnit")
	switch {
	case unit != nil && !market:
		return bad("marketUnit counts for spot market orders only")
	case market && (unit == nil && e.Side == "buy" || unit != nil && unit.text == "quoteCoin"):
		e.Quantity, e.QuoteQuantity = "", e.Quantity
	}
	return nil
}

func bybitSettings() []row {
	symbol := &shape{symbol: "symbol"}
	return []row{
		{op: Settings, line: "POST /v5/position/set-leverage", takes: "category symbol buyLeverage sellLeverage", shape: symbol},
		{op: Settings, line: "POST /v5/position/switch-isolated", takes: "category symbol tradeMode buyLeverage sellLeverage", shape: symbol},
		{op: Settings, line: "POST /v5/position/switch-mode", takes: "category symbol coin mode", shape: symbol},
		{op: Settings, line: "POST /v5/position/set-tpsl-mode", takes: "category symbol tpSlMode", shape: symbol},
		{op: Settings, line: "POST /v5/position/set-risk-limit", takes: "category symbol riskId positionIdx", shape: symbol},
		{op: Settings, line: "POST /v5/position/set-auto-add-margin", takes: "category symbol autoAddMargin positionIdx", shape: symbol},
		{
			op: Settings, line: "POST /v5/position/add-margin", takes: "category symbol margin positionIdx",
			shape: &shape{symbol: "symbol", quantity: "margin"},
		},
		{op: Settings, line: "POST /v5/account/set-margin-mode", takes: "setMarginMode"},
		{op: Settings, line: "POST /v5/account/set-hedging-mode", takes: "setHedgingMode"},
		{op: Settings, line: "POST /v5/account/mmp-modify", takes: "baseCoin window frozenPeriod qtyLimit deltaLimit"},
		{op: Settings, line: "POST /v5/account/mmp-reset", takes: "baseCoin"},
	}
}

// bybitFunds moves funds or keys. Conversions, fiat, loans and earn are unknown.
func bybitFunds() []row {
	return []row{
		{
			op: Withdraw, line: "POST /v5/asset/withdraw/create",
			takes: "coin! address! amount! chain tag timestamp forceChain accountType feeType requestId beneficiary{}",
			shape: &shape{asset: "coin", quantity: "amount", network: "chain", address: "address", tag: "tag", client: "requestId"},
		},
		{op: Transfer, line: "POST /v5/asset/withdraw/cancel", takes: "id!"},
		{
			op: Transfer, line: "POST /v5/asset/transfer/inter-transfer", takes: "transferId! coin! amount! fromAccountType! toAccountType!",
			shape: &shape{asset: "coin", quantity: "amount", address: "toAccountType", client: "transferId"},
		},
		{
			op: Transfer, line: "POST /v5/asset/transfer/universal-transfer",
			takes: "transferId! coin! amount! fromMemberId! toMemberId! fromAccountType! toAccountType!",
			shape: &shape{asset: "coin", quantity: "amount", address: "toMemberId", client: "transferId"},
		},
		{op: Transfer, line: "POST /v5/asset/transfer/save-transfer-sub-member", takes: "subMemberIds[]!"},
		{op: Transfer, line: "POST /v5/asset/deposit/deposit-to-account", takes: "accountType"},
		{op: Admin, line: "POST /v5/user/create-sub-member", takes: "username password memberType switch isUta note"},
		{op: Admin, line: "POST /v5/user/frozen-sub-member", takes: "subuid frozen"},
		{op: Admin, line: "POST /v5/user/create-sub-api", takes: "subuid note readOnly ips permissions{}"},
		{op: Admin, line: "POST /v5/user/update-api", takes: "readOnly ips permissions{}"},
		{op: Admin, line: "POST /v5/user/update-sub-api", takes: "apikey readOnly ips permissions{}"},
		{op: Admin, line: "POST /v5/user/delete-api"},
		{op: Admin, line: "POST /v5/user/delete-sub-api", takes: "apikey"},
	}
}
