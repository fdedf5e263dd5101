package venue

import "slices"

// binanceFutures is USDⓈ-M futures, https://developers.binance.com/docs/derivatives/usds-margined-futures.
func binanceFutures() []row {
	return slices.Concat(
		public("GET /fapi/v1/", "ping time exchangeInfo depth rpiDepth trades aggTrades klines continuousKlines markPriceKlines indexPriceKlines"+
			" premiumIndexKlines fundingRate fundingInfo premiumIndex ticker/24hr ticker/price ticker/bookTicker openInterest indexInfo assetIndex"+
			" constituents insuranceBalance symbolAdlRisk tradingSchedule"),
		public("GET /fapi/v2/", "ticker/price"),
		public("GET /futures/data/", "delivery-price openInterestHist topLongShortAccountRatio topLongShortPositionRatio globalLongShortAccountRatio"+
			" takerlongshortRatio basis"),
		reads("GET /fapi/v1/", "forceOrders allOrders openOrder openOrders order account balance leverageBracket positionMargin/history"+
			" positionRisk positionSide/dual userTrades income commissionRate rateLimit/order apiTradingStatus multiAssetsMargin adlQuantile"+
			" pmAccountInfo orderAmendment feeBurn symbolConfig accountConfig algoOrder openAlgoOrders allAlgoOrders"+
			" income/asyn income/asyn/id order/asyn order/asyn/id trade/asyn trade/asyn/id"),
		reads("GET /fapi/v2/", "account balance positionRisk"),
		reads("GET /fapi/v3/", "account balance positionRisk"),
		// COIN-M futures, whose markets some libraries load before anything else.
		public("GET /dapi/v1/", "ping time exchangeInfo depth trades aggTrades klines premiumIndex fundingRate fundingInfo ticker/24hr ticker/price"+
			" ticker/bookTicker openInterest"),
		binanceFuturesOrders(), binanceFuturesSettings(),
	)
}

func binanceFuturesOrders() []row {
	const common = "symbol side positionSide type timeInForce quantity reduceOnly price workingType priceProtect closePosition callbackRate" +
		" newOrderRespType priceMatch selfTradePreventionMode goodTillDate"
	const order = common + " newClientOrderId stopPrice activationPrice"
	const change = "orderId origClientOrderId symbol side quantity price priceMatch"
	fields := shape{symbol: "symbol", side: "side", kind: "type", quantity: "quantity", price: "price", client: "newClientOrderId"}
	changed := shape{symbol: "symbol", side: "side", quantity: "quantity", price: "price", client: "origClientOrderId"}
	algo := fields
	algo.client = "clientAlgoId"
	batch := func(s shape, each string) *shape {
		s.list, s.each = "batchOrders", each
		return &s
	}
	symbol := &shape{symbol: "symbol"}
	return []row{
		{op: Trade, line: "POST /fapi/v1/order", takes: order, shape: &fields},
		{op: Trade, line: "POST /fapi/v1/order/test", takes: order, shape: &fields},
		{op: Trade, line: "PUT /fapi/v1/order", takes: change, shape: &changed},
		{op: Trade, line: "POST /fapi/v1/batchOrders", takes: "batchOrders{}", shape: batch(fields, order)},
		{op: Trade, line: "PUT /fapi/v1/batchOrders", takes: "batchOrders{}", shape: batch(changed, change)},
		{op: Trade, line: "POST /fapi/v1/algoOrder", takes: common + " algoType triggerPrice activatePrice clientAlgoId", shape: &algo},
		{
			op: Cancel, line: "DELETE /fapi/v1/order", takes: "symbol orderId origClientOrderId",
			shape: &shape{symbol: "symbol", client: "origClientOrderId", names: "orderId origClientOrderId"},
		},
		{
			op: Cancel, line: "DELETE /fapi/v1/batchOrders", takes: "symbol orderIdList[] origClientOrderIdList[] orderidlist[] origclientorderidlist[]",
			shape: &shape{symbol: "symbol", names: "orderIdList origClientOrderIdList orderidlist origclientorderidlist"}, // also as ccxt writes them
		},
		{
			op: Cancel, line: "DELETE /fapi/v1/algoOrder", takes: "algoId clientAlgoId",
			shape: &shape{client: "clientAlgoId", names: "algoId clientAlgoId"},
		},
		{op: Cancel, line: "DELETE /fapi/v1/allOpenOrders", takes: "symbol", shape: symbol, exact: true},
		{op: Cancel, line: "DELETE /fapi/v1/algoOpenOrders", takes: "symbol", shape: symbol, exact: true},
		{op: Cancel, line: "POST /fapi/v1/countdownCancelAll", takes: "symbol countdownTime", shape: symbol, exact: true},
	}
}

func binanceFuturesSettings() []row {
	symbol := &shape{symbol: "symbol"}
	// The stream of the account; whoever has the listen key reads it.
	stream := []Operation{Read}
	return []row{
		{op: Read, line: "GET /fapi/v1/historicalTrades", keyed: true},
		{op: Settings, line: "POST /fapi/v1/leverage", takes: "symbol leverage", shape: symbol},
		{op: Settings, line: "POST /fapi/v1/marginType", takes: "symbol marginType", shape: symbol},
		{op: Settings, line: "POST /fapi/v1/positionMargin", takes: "symbol positionSide amount type", shape: &shape{symbol: "symbol", quantity: "amount"}},
		{op: Settings, line: "POST /fapi/v1/positionSide/dual", takes: "dualSidePosition"},
		{op: Settings, line: "POST /fapi/v1/multiAssetsMargin", takes: "multiAssetsMargin"},
		{op: Settings, line: "POST /fapi/v1/feeBurn", takes: "feeBurn"},
		{op: Session, line: "POST /fapi/v1/listenKey", keyed: true, grants: stream},
		{op: Session, line: "PUT /fapi/v1/listenKey", takes: "listenKey", keyed: true, grants: stream},
		{op: Session, line: "DELETE /fapi/v1/listenKey", takes: "listenKey", keyed: true, grants: stream},
	}
}
