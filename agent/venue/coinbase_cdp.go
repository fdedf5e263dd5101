package venue

import (
	"slices"
	"time"
)

// coinbaseCDP is Coinbase Advanced Trade, with the secret API keys of the
// Coinbase Developer Platform
// (https://docs.cdp.coinbase.com/get-started/authentication/jwt-authentication).
// A request carries a JWT that names method, host and path, and neither query nor body.
func coinbaseCDP() *Venue {
	sandbox := environment{hosts: []host{{name: "api-sandbox.coinbase.com"}}}
	testnet := sandbox // its name elsewhere, so that one environment can span venues
	sandbox.name, testnet.name = "sandbox", "testnet"
	const socket = "wss://advanced-trade-ws-user.coinbase.com"
	return &Venue{
		name: "coinbase-cdp",
		environments: []environment{{
			name:    "production",
			hosts:   []host{{name: "api.coinbase.com"}},
			sockets: map[string]string{"user": socket, "futures_balance_summary": socket},
		}, sandbox, testnet},
		signs:   []signing{{algorithm: ES256, encoding: inBase64URL}, {algorithm: Ed25519, encoding: inBase64URL}},
		secret:  "raw",
		message: must("{jwt}"),
		// As the venue's own libraries make them: coinbase-advanced-py, and the CDP SDK for Ed25519.
		jwt:    map[Algorithm]claims{ES256: {issuer: "cdp"}, Ed25519: {issuer: "cdp", uris: true}},
		header: []headerField{{"Authorization", must("Bearer {message}.{signature}")}},
		bodies: []bodyKind{jsonBody},
		passes: []string{"CB-VERSION"},
		clock:  clock{path: "/api/v3/brokerage/time", answer: []string{"epochMillis"}, tick: time.Millisecond},
		rows:   slices.Concat(coinbaseCDPReads(), coinbaseCDPOrders(), coinbaseCDPFunds()),
		logins: []login{coinbaseCDPLogin("user"), coinbaseCDPLogin("futures_balance_summary")},
		probes: []probe{{"GET /api/v3/brokerage/key_permissions", coinbaseCDPRights}},
		// A key that isn't good is UNAUTHENTICATED, one without the right PERMISSION_DENIED: https://docs.cdp.coinbase.com/coinbase-app/api-architecture/status-codes
		refuses: refusals{statuses: []int{unauthorized, forbidden}},
	}
}

// coinbaseCDPRights reads
// https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/data-api/get-api-key-permissions.
// It tells nothing of addresses.
func coinbaseCDPRights(answer any) Rights {
	return Rights{Withdraw: says(find(answer, "can_transfer"))}
}

// coinbaseCDPLogin is a subscription, each with a token of its own. The app adds
// product_ids to it: the token doesn't name them.
func coinbaseCDPLogin(channel string) login {
	return login{
		channel: channel,
		message: must("{jwt}"),
		frame:   must(`{"type":"subscribe","channel":"{channel}","jwt":"{message}.{signature}"}`),
		grants:  []Operation{Read},
	}
}

func coinbaseCDPReads() []row {
	return slices.Concat(
		public("GET /api/v3/brokerage/", "time market/product_book market/products market/products/{id} market/products/{id}/candles"+
			" market/products/{id}/ticker"),
		public("GET /v2/", "time currencies currencies/crypto exchange-rates prices/{pair}/buy prices/{pair}/sell prices/{pair}/spot"),
		reads("GET /api/v3/brokerage/", "accounts accounts/{id} orders/historical/batch orders/historical/fills orders/historical/{id} products"+
			" products/{id} products/{id}/candles products/{id}/ticker best_bid_ask product_book transaction_summary portfolios portfolios/{id}"+
			" convert/trade/{id} cfm/balance_summary cfm/positions cfm/positions/{id} cfm/sweeps cfm/intraday/current_margin_window"+
			" cfm/intraday/margin_setting intx/balances/{id} intx/portfolio/{id} intx/positions/{id} intx/positions/{id}/{symbol} payment_methods"+
			" payment_methods/{id} key_permissions"),
		reads("GET /v2/", "user user/auth accounts accounts/{id} accounts/{id}/addresses accounts/{id}/addresses/{address}"+
			" accounts/{id}/addresses/{address}/transactions accounts/{id}/transactions accounts/{id}/transactions/{transaction}"+
			" accounts/{id}/deposits accounts/{id}/deposits/{deposit} accounts/{id}/withdrawals accounts/{id}/withdrawals/{withdrawal}"+
			" payment-methods payment-methods/{id}"),
	)
}

func coinbaseCDPOrders() []row {
	// leverage and margin_type borrow, retail_portfolio_id names an account, preview_id and attached_order_configuration bring
	// orders that can't be seen or are attached: not listed.
	const order = "client_order_id product_id side order_configuration{} self_trade_prevention_id"
	const edit = "order_id price size"
	edited := &shape{quantity: "size", price: "price"}
	return []row{
		{op: Trade, line: "POST /api/v3/brokerage/orders", takes: order, judge: coinbaseOrder},
		{op: Trade, line: "POST /api/v3/brokerage/orders/preview", takes: order, judge: coinbaseOrder},
		{op: Trade, line: "POST /api/v3/brokerage/orders/edit", takes: edit, shape: edited},
		{op: Trade, line: "POST /api/v3/brokerage/orders/edit_preview", takes: edit, shape: edited},
		{
			op: Trade, line: "POST /api/v3/brokerage/orders/close_position", takes: "client_order_id product_id size",
			shape: &shape{symbol: "product_id", quantity: "size", client: "client_order_id"},
		},
		{op: Cancel, line: "POST /api/v3/brokerage/orders/batch_cancel", takes: "order_ids[]", shape: &shape{names: "order_ids"}},
	}
}

// coinbaseConfiguration is what an order configuration takes, whatever its name.
var coinbaseConfiguration = parseTakes("base_size quote_size limit_price stop_price stop_trigger_price stop_direction end_time start_time post_only" +
	" reduce_only rfq_disabled number_buckets bucket_size bucket_duration")

// coinbaseOrder reads an order whose size and price are in its order_configuration:
// an object with one member, which is named for the type of the order.
func coinbaseOrder(given fields, row *row) ([]Effect, error) {
	e := Effect{Operation: row.op}
	outer := shape{symbol: "product_id", side: "side", client: "client_order_id"}
	if err := outer.read(given, fields{}, &e); err != nil {
		return nil, err
	}
	configuration := given.get("order_configuration")
	if configuration == nil || configuration.kind != object {
		return nil, bad("%s wants an object in order_configuration", row.line)
	}
	found := 0
	for kind := range members(given.tape, configuration.node(given.tape)) {
		if found++; kind.kind != object || found > 1 {
			return nil, bad("order_configuration has more than one object")
		}
		inner := fields{tape: given.tape, node: kind.node(given.tape)}
		if err := listed(inner, row, coinbaseConfiguration, nil); err != nil {
			return nil, err
		}
		size := shape{quantity: "base_size", quote: "quote_size", price: "limit_price"}
		if err := size.read(inner, fields{}, &e); err != nil {
			return nil, err
		}
		e.Type = kind.name
	}
	if found == 0 {
		return nil, bad("order_configuration is empty")
	}
	return []Effect{e}, nil
}

// coinbaseCDPFunds moves funds, or what funds may move to. Buying and selling through /v2 is unknown.
func coinbaseCDPFunds() []row {
	payment := &shape{asset: "currency", quantity: "amount", address: "payment_method"}
	return []row{
		{
			op: Withdraw, line: "POST /v2/accounts/{id}/transactions",
			takes: "type! to! amount! currency! description idem skip_notifications fee destination_tag network to_financial_institution" +
				" financial_institution_website travel_rule_data{}",
			shape: &shape{asset: "currency", quantity: "amount", network: "network", address: "to", tag: "destination_tag", client: "idem"},
		},
		{op: Withdraw, line: "POST /v2/accounts/{id}/withdrawals", takes: "amount! currency! payment_method! commit", shape: payment},
		{op: Withdraw, line: "POST /v2/accounts/{id}/withdrawals/{withdrawal}/commit"},
		{op: Transfer, line: "POST /v2/accounts/{id}/deposits", takes: "amount! currency! payment_method! commit", shape: payment},
		{op: Transfer, line: "POST /v2/accounts/{id}/deposits/{deposit}/commit"},
		{
			op: Transfer, line: "POST /api/v3/brokerage/portfolios/move_funds", takes: "funds{}! source_portfolio_uuid! target_portfolio_uuid!",
			judge: coinbaseMove,
		},
		{
			op: Transfer, line: "POST /api/v3/brokerage/convert/quote", takes: "from_account! to_account! amount! trade_incentive_metadata{}",
			shape: &shape{quantity: "amount", address: "to_account"},
		},
		{op: Transfer, line: "POST /api/v3/brokerage/convert/trade/{id}", takes: "from_account! to_account!", shape: &shape{address: "to_account"}},
		{
			op: Transfer, line: "POST /api/v3/brokerage/intx/allocate", takes: "portfolio_uuid! symbol! amount! currency!",
			shape: &shape{symbol: "symbol", asset: "currency", quantity: "amount", address: "portfolio_uuid"},
		},
		{op: Transfer, line: "POST /api/v3/brokerage/cfm/sweeps/schedule", takes: "usd_amount!", shape: &shape{quantity: "usd_amount"}},
		{op: Transfer, line: "DELETE /api/v3/brokerage/cfm/sweeps"},
		{op: Settings, line: "POST /api/v3/brokerage/cfm/intraday/margin_setting", takes: "setting"},
		{op: Settings, line: "POST /api/v3/brokerage/intx/multi_asset_collateral", takes: "portfolio_uuid multi_asset_collateral_enabled"},
		{op: Admin, line: "POST /v2/accounts/{id}/addresses", takes: "name network"},
		{op: Admin, line: "POST /api/v3/brokerage/portfolios", takes: "name"},
		{op: Admin, line: "PUT /api/v3/brokerage/portfolios/{id}", takes: "name"},
		{op: Admin, line: "DELETE /api/v3/brokerage/portfolios/{id}"},
	}
}

// coinbaseMove reads a move between portfolios: funds is {"value", "currency"}.
func coinbaseMove(given fields, row *row) ([]Effect, error) {
	e := Effect{Operation: row.op}
	outer := shape{address: "target_portfolio_uuid"}
	if err := outer.read(given, fields{}, &e); err != nil {
		return nil, err
	}
	funds := given.get("funds")
	if funds == nil || funds.kind != object {
		return nil, bad("%s wants an object in funds", row.line)
	}
	inner := shape{asset: "currency", quantity: "value"}
	err := inner.read(fields{tape: given.tape, node: funds.node(given.tape)}, fields{}, &e)
	return []Effect{e}, err
}
