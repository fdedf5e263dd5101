package venue

import (
	"slices"
	"strings"
	"time"
)

// binance is Binance spot and USDⓈ-M futures.
//
// Signing: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security.
// The message is query and body without a separator. It covers no path, so a
// signature fits every endpoint that takes its parameters. One symbol can name a
// spot pair and a contract: BTCUSDT is both.
func binance() *Venue {
	spot := &service{prefixes: []string{"/api/", "/sapi/"}}
	futures := &service{prefixes: []string{"/fapi/", "/futures/"}, clock: "/fapi/v1/time"}
	coin := &service{prefixes: []string{"/dapi/"}, clock: "/dapi/v1/time"}
	// "Only the /api endpoints are available on the Spot Test Network": https://testnet.binance.vision, FAQ.
	testSpot := &service{prefixes: []string{"/api/"}}
	bothFutures := &service{prefixes: []string{"/fapi/", "/futures/", "/dapi/"}, clock: "/fapi/v1/time"}
	return &Venue{
		name: "binance",
		environments: []environment{{
			name: "production",
			hosts: []host{
				{"api.binance.com", spot}, {"api-gcp.binance.com", spot}, {"api1.binance.com", spot}, {"api2.binance.com", spot},
				{"api3.binance.com", spot}, {"api4.binance.com", spot}, {"fapi.binance.com", futures}, {"dapi.binance.com", coin},
			},
			sockets: map[string]string{"spot": "wss://ws-api.binance.com/ws-api/v3", "futures": "wss://ws-fapi.binance.com/ws-fapi/v1"},
		}, {
			name:    "testnet",
			hosts:   []host{{"testnet.binance.vision", testSpot}, {"testnet.binancefuture.com", bothFutures}},
			sockets: map[string]string{"spot": "wss://ws-api.testnet.binance.vision/ws-api/v3", "futures": "wss://testnet.binancefuture.com/ws-fapi/v1"},
		}, {
			name:    "demo",
			hosts:   []host{{"demo-api.binance.com", spot}, {"demo-fapi.binance.com", futures}, {"demo-dapi.binance.com", coin}},
			sockets: map[string]string{"spot": "wss://demo-ws-api.binance.com/ws-api/v3"},
		}},
		signs: []signing{
			{algorithm: HMACSHA256, encoding: inHex},
			{algorithm: RSASHA256, encoding: inBase64, register: binanceKeys},
			{algorithm: Ed25519, encoding: inBase64, register: binanceKeys},
		},
		secret:     "raw",
		message:    must("{query}{body}"),
		header:     []headerField{{"X-MBX-APIKEY", must("{api_key}")}},
		stamp:      &stampParam{name: "timestamp", value: must("{timestamp_ms}")},
		signedIn:   "signature",
		common:     "recvWindow",
		bodies:     []bodyKind{formBody},
		postQuery:  true,
		deleteBody: true,
		clock:      clock{path: "/api/v3/time", answer: []string{"serverTime"}, tick: time.Millisecond},
		rows:       slices.Concat(binanceSpot(), binanceWallet(), binanceFutures()),
		logins:     binanceLogins("spot", "futures"),
		probes:     []probe{{"GET /sapi/v1/account/apiRestrictions", binanceRights}, {"GET /api/v3/account", nil}},
		// https://developers.binance.com/docs/binance-spot-api-docs/errors
		refuses: refusals{
			statuses: []int{unauthorized}, code: []string{"code"}, codes: []string{"-1002", "-1022", "-2008", "-2014", "-2015"},
		},
	}
}

// binanceRights reads https://developers.binance.com/docs/wallet/account/api-key-permission.
// A key without an IP list loses the right to trade at a time that it tells.
func binanceRights(answer any) Rights {
	return Rights{
		Withdraw: says(find(answer, "enableWithdrawals")),
		IPList:   says(find(answer, "ipRestrict")),
		Expires:  since1970(find(answer, "tradingAuthorityExpirationTime"), time.Millisecond),
	}
}

// binanceKeys is where a public key is registered.
const binanceKeys = "https://www.binance.com/en/my/settings/api-management"

// binanceLogins are session.logon of the WebSocket API, which takes Ed25519 keys
// only. After it, requests on the socket carry no signature. Its message has the
// form of a REST request's that takes no parameters of its own.
func binanceLogins(channels ...string) []login {
	var logins []login
	for _, channel := range channels {
		logins = append(logins, login{
			channel:    channel,
			message:    must("apiKey={api_key}&timestamp={timestamp_ms}"),
			frame:      must(`{"id":"{uuid}","method":"session.logon","params":{"apiKey":"{api_key}","signature":"{signature}","timestamp":{timestamp_ms}}}`),
			grants:     []Operation{Read, Trade, Cancel},
			algorithms: []Algorithm{Ed25519},
		})
	}
	return logins
}

func binanceSpot() []row {
	const order = "symbol side type timeInForce quantity quoteOrderQty price newClientOrderId strategyId strategyType stopPrice trailingDelta" +
		" icebergQty newOrderRespType selfTradePreventionMode"
	fields := shape{
		symbol: "symbol", side: "side", kind: "type", quantity: "quantity", quote: "quoteOrderQty", price: "price", client: "newClientOrderId",
	}
	// A trading day's stream of the account; whoever has the listen key reads it.
	stream := []Operation{Read}
	return slices.Concat(
		public("GET /api/v3/", "ping time exchangeInfo depth trades aggTrades klines uiKlines avgPrice ticker ticker/24hr ticker/tradingDay"+
			" ticker/price ticker/bookTicker executionRules referencePrice referencePrice/calculation"),
		reads("GET /api/v3/", "account account/commission order openOrders allOrders orderList allOrderList openOrderList myTrades"+
			" myPreventedMatches myAllocations rateLimit/order order/amendments myFilters"),
		[]row{
			{op: Read, line: "GET /api/v3/historicalTrades", keyed: true},
			{op: Trade, line: "POST /api/v3/order", takes: order, shape: &fields},
			{op: Trade, line: "POST /api/v3/order/test", takes: order + " computeCommissionRates", shape: &fields},
			{op: Trade, line: "POST /api/v3/sor/order", takes: order, shape: &fields},
			{op: Trade, line: "POST /api/v3/sor/order/test", takes: order + " computeCommissionRates", shape: &fields},
			{
				op: Trade, line: "POST /api/v3/order/cancelReplace",
				takes: order + " cancelReplaceMode cancelNewClientOrderId cancelOrigClientOrderId cancelOrderId cancelRestrictions orderRateLimitExceededMode",
				judge: legs(leg{Cancel, shape{symbol: "symbol", names: "cancelOrderId cancelOrigClientOrderId"}}, leg{Trade, fields}),
			},
			{
				// It can only lower an order's quantity; its side and price stay.
				op: Trade, line: "PUT /api/v3/order/amend/keepPriority", takes: "symbol orderId origClientOrderId newClientOrderId newQty",
				shape: &shape{symbol: "symbol", quantity: "newQty", client: "newClientOrderId"},
			},
			{
				op: Cancel, line: "DELETE /api/v3/order", takes: "symbol orderId origClientOrderId newClientOrderId cancelRestrictions",
				shape: &shape{symbol: "symbol", client: "origClientOrderId", names: "orderId origClientOrderId"},
			},
			{
				op: Cancel, line: "DELETE /api/v3/orderList", takes: "symbol orderListId listClientOrderId newClientOrderId",
				shape: &shape{symbol: "symbol", client: "listClientOrderId", names: "orderListId listClientOrderId"},
			},
			{op: Cancel, line: "DELETE /api/v3/openOrders", takes: "symbol", shape: &shape{symbol: "symbol"}, exact: true},
			{op: Session, line: "POST /api/v3/userDataStream", keyed: true, grants: stream},
			{op: Session, line: "PUT /api/v3/userDataStream", takes: "listenKey", keyed: true, grants: stream},
			{op: Session, line: "DELETE /api/v3/userDataStream", takes: "listenKey", keyed: true, grants: stream},
		},
		binanceLists(),
	)
}

// binanceLists are the order lists of spot: several orders in one request.
func binanceLists() []row {
	const list = "symbol listClientOrderId newOrderRespType selfTradePreventionMode"
	part := func(prefix, side, quantity string) leg {
		return leg{Trade, shape{
			symbol: "symbol", side: side, kind: prefix + "Type", quantity: quantity, price: prefix + "Price", client: prefix + "ClientOrderId",
		}}
	}
	takes := func(prefixes ...string) string {
		all := list
		for _, prefix := range prefixes {
			for name := range strings.FieldsSeq("Type ClientOrderId IcebergQty Price StopPrice TrailingDelta TimeInForce StrategyId StrategyType") {
				all += " " + prefix + name
			}
		}
		return all
	}
	return []row{
		{
			op: Trade, line: "POST /api/v3/orderList/oco", takes: takes("above", "below") + " side quantity",
			judge: legs(part("above", "side", "quantity"), part("below", "side", "quantity")),
		},
		{
			op: Trade, line: "POST /api/v3/orderList/oto", takes: takes("working", "pending") + " workingSide workingQuantity pendingSide pendingQuantity",
			judge: legs(part("working", "workingSide", "workingQuantity"), part("pending", "pendingSide", "pendingQuantity")),
		},
		{
			op: Trade, line: "POST /api/v3/orderList/otoco",
			takes: takes("working", "pendingAbove", "pendingBelow") + " workingSide workingQuantity pendingSide pendingQuantity",
			judge: legs(part("working", "workingSide", "workingQuantity"), part("pendingAbove", "pendingSide", "pendingQuantity"),
				part("pendingBelow", "pendingSide", "pendingQuantity")),
		},
		{
			op: Trade, line: "POST /api/v3/order/oco",
			takes: list + " side quantity limitClientOrderId limitStrategyId limitStrategyType price limitIcebergQty trailingDelta stopClientOrderId" +
				" stopPrice stopStrategyId stopStrategyType stopLimitPrice stopIcebergQty stopLimitTimeInForce",
			judge: legs(leg{Trade, shape{symbol: "symbol", side: "side", quantity: "quantity", price: "price", client: "limitClientOrderId"}},
				leg{Trade, shape{symbol: "symbol", side: "side", quantity: "quantity", price: "stopLimitPrice", client: "stopClientOrderId"}}),
		},
	}
}
