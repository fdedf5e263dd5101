package venue

import "slices"

// coinbaseExchange is Coinbase Exchange
// (https://docs.cdp.coinbase.com/exchange/rest-api/authentication).
func coinbaseExchange() *Venue {
	sandbox := environment{
		hosts:   []host{{name: "api-public.sandbox.exchange.coinbase.com"}},
		sockets: map[string]string{"user": "wss://ws-direct.sandbox.exchange.coinbase.com"},
	}
	testnet := sandbox // its name elsewhere, so that one environment can span venues
	sandbox.name, testnet.name = "sandbox", "testnet"
	return &Venue{
		name: "coinbase-exchange",
		environments: []environment{{
			name:    "production",
			hosts:   []host{{name: "api.exchange.coinbase.com"}},
			sockets: map[string]string{"user": "wss://ws-direct.exchange.coinbase.com"},
		}, sandbox, testnet},
		signs:   []signing{{algorithm: HMACSHA256, encoding: inBase64}},
		secret:  "base64",
		message: must("{timestamp_s}{method}{path}{?query}{body}"),
		header: []headerField{
			{"CB-ACCESS-KEY", must("{api_key}")},
			{"CB-ACCESS-SIGN", must("{signature}")},
			{"CB-ACCESS-TIMESTAMP", must("{timestamp_s}")},
			{"CB-ACCESS-PASSPHRASE", must("{passphrase}")},
		},
		bodies:     []bodyKind{jsonBody},
		deleteBody: true,
		clock:      clock{path: "/time", answer: []string{"iso"}},
		// No endpoint tells what the key may do. https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/accounts/get-all-account-profile
		probes:  []probe{{"GET /accounts", nil}},
		refuses: refusals{statuses: []int{unauthorized, forbidden}},
		rows:    slices.Concat(coinbaseExchangeReads(), coinbaseExchangeOrders(), coinbaseExchangeFunds()),
		// The app adds product_ids, or other channels, to the message: what is signed doesn't name them.
		logins: []login{{
			channel: "user",
			message: must("{timestamp_s}GET/users/self/verify"),
			frame: must(`{"type":"subscribe","channels":["{channel}"],"signature":"{signature}","key":"{api_key}",` +
				`"passphrase":"{passphrase}","timestamp":"{timestamp_s}"}`),
			grants: []Operation{Read},
		}},
	}
}

func coinbaseExchangeReads() []row {
	return slices.Concat(
		public("GET /", "time products products/{id} products/{id}/book products/{id}/candles products/{id}/stats products/{id}/ticker"+
			" products/{id}/trades products/volume-summary products/spark-lines currencies currencies/{id} wrapped-assets wrapped-assets/{id}"+
			" wrapped-assets/{id}/conversion-rate"),
		reads("GET /", "accounts accounts/{id} accounts/{id}/holds accounts/{id}/ledger accounts/{id}/transfers coinbase-accounts orders orders/{id}"+
			" fills fees funding profiles profiles/{id} transfers transfers/{id} payment-methods position oracle reports reports/{id} address-book"+
			" address-book/counterparty travel-rules conversions conversions/fees conversions/{id} withdrawals/fee-estimate otc/orders"+
			" users/self/exchange-limits users/self/hold-balances users/self/trailing-volume users/{id}/trading-volumes"+
			" margin/profile_information margin/buying_power margin/withdrawal_power margin/withdrawal_power_all margin/exit_plan"+
			" margin/liquidation_history margin/position_refresh_amounts margin/status loans loans/assets loans/interest loans/lending-overview"),
	)
}

func coinbaseExchangeOrders() []row {
	return []row{
		{
			// profile_id names an account and stop_limit_price attaches an order: not listed.
			op: Trade, line: "POST /orders",
			takes: "product_id side type price size funds client_oid stp stop stop_price time_in_force cancel_after post_only max_floor",
			shape: &shape{symbol: "product_id", side: "side", kind: "type", quantity: "size", quote: "funds", price: "price", client: "client_oid"},
		},
		// The order is named. product_id only makes the venue faster, and libraries write it in ways of their own.
		{op: Cancel, line: "DELETE /orders/{id}", takes: "product_id", shape: &shape{}},
		{op: Cancel, line: "DELETE /orders", takes: "product_id", shape: &shape{symbol: "product_id"}, exact: true},
	}
}

// coinbaseExchangeFunds moves funds, or what funds may move to. Loans and wrapped assets are unknown.
func coinbaseExchangeFunds() []row {
	to := func(address string) *shape { return &shape{asset: "currency", quantity: "amount", address: address} }
	return []row{
		{
			op: Withdraw, line: "POST /withdrawals/crypto",
			takes: "amount! currency! crypto_address! profile_id destination_tag no_destination_tag nonce network add_network_fee two_factor_code travel_rule_data{}",
			shape: &shape{asset: "currency", quantity: "amount", network: "network", address: "crypto_address", tag: "destination_tag"},
		},
		{
			op: Withdraw, line: "POST /withdrawals/coinbase-account", takes: "amount! currency! coinbase_account_id! profile_id",
			shape: to("coinbase_account_id"),
		},
		{op: Withdraw, line: "POST /withdrawals/coinbase", takes: "amount! currency! coinbase_account_id! profile_id", shape: to("coinbase_account_id")},
		{op: Withdraw, line: "POST /withdrawals/payment-method", takes: "amount! currency! payment_method_id! profile_id", shape: to("payment_method_id")},
		{op: Withdraw, line: "POST /withdrawals/counterparty", takes: "amount! currency! counterparty_id! profile_id", shape: to("counterparty_id")},
		{op: Transfer, line: "POST /deposits/coinbase-account", takes: "amount! currency! coinbase_account_id! profile_id", shape: to("")},
		{op: Transfer, line: "POST /deposits/payment-method", takes: "amount! currency! payment_method_id! profile_id", shape: to("")},
		{op: Transfer, line: "POST /profiles/transfer", takes: "from! to! currency! amount!", shape: to("to")},
		{op: Transfer, line: "POST /profiles/margin-transfer", takes: "margin_profile_id! type! currency! amount!", shape: to("margin_profile_id")},
		{op: Transfer, line: "POST /conversions", takes: "from! to! amount! profile_id nonce", shape: &shape{asset: "from", quantity: "amount"}},
		{op: Transfer, line: "POST /transfers/{id}/travel-rules", takes: "originator_name! originator_country! originator_address{}"},
		{op: Admin, line: "POST /coinbase-accounts/{id}/addresses", takes: "profile_id network"},
		{op: Admin, line: "POST /address-book", takes: "addresses{}"},
		{op: Admin, line: "PUT /address-book/{id}", takes: "label is_verified_self_hosted_wallet vasp_id business_name"},
		{op: Admin, line: "DELETE /address-book/{id}"},
		{op: Admin, line: "POST /profiles", takes: "name"},
		{op: Admin, line: "PUT /profiles/{id}", takes: "profile_id name"},
		{op: Admin, line: "PUT /profiles/{id}/deactivate", takes: "profile_id to"},
	}
}
