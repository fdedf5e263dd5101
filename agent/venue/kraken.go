package venue

import (
	"slices"
	"strings"
	"time"
)

// kraken is Kraken spot.
//
// Signing: https://docs.kraken.com/api/docs/guides/spot-rest-auth. The message is
// the path and the SHA-256 of nonce and body; private requests are POST without a
// query, so it determines the whole request. One pair has several names (XBTUSD,
// XXBTZUSD, XBT/USD): a role needs the one that the app writes.
func kraken() *Venue {
	return &Venue{
		name:         "kraken",
		environments: []environment{{name: "production", hosts: []host{{name: "api.kraken.com"}}}},
		signs:        []signing{{algorithm: HMACSHA512, encoding: inBase64}},
		secret:       "base64",
		message:      must("{path}{nonce_body_sha256}"),
		header:       []headerField{{"API-Key", must("{api_key}")}, {"API-Sign", must("{signature}")}},
		stamp:        &stampParam{name: "nonce", value: must("{nonce}"), first: true, body: true},
		once:         "the nonce, which must be higher than any before it (https://docs.kraken.com/api/docs/guides/spot-rest-auth)",
		bodies:       []bodyKind{formBody, jsonBody},
		alwaysPost:   true,
		clock:        clock{path: "/0/public/Time", answer: []string{"result", "unixtime"}, tick: time.Second},
		probes:       []probe{{"POST /0/private/GetApiKeyInfo", krakenRights}},
		// https://docs.kraken.com/api/docs/guides/spot-errors
		refuses: refusals{
			statuses: []int{unauthorized}, code: []string{"error", "0"},
			codes: []string{"EAPI:Invalid key", "EAPI:Invalid signature", "EGeneral:Permission denied"},
		},
		rows: slices.Concat(
			public("GET /0/public/", "Time SystemStatus MaintenanceSchedule Assets AssetPairs Ticker OHLC Depth GroupedBook Trades Spread PreTrade PostTrade"),
			reads("POST /0/private/", "Level3 Balance BalanceEx CreditLines TradeBalance OpenOrders ClosedOrders QueryOrders OrderAmends"+
				" TradesHistory QueryTrades OpenPositions Ledgers QueryLedgers TradeVolume AddExport ExportStatus RetrieveExport GetApiKeyInfo"+
				" ListWalletAccounts DepositMethods DepositStatus WithdrawMethods WithdrawAddresses WithdrawInfo WithdrawStatus"+
				" Earn/Strategies Earn/Allocations Earn/AllocateStatus Earn/DeallocateStatus"),
			krakenOrders(), krakenFunds(),
		),
	}
}

// krakenRights reads https://docs.kraken.com/api-reference/account-data/get-api-key-info.
func krakenRights(answer any) Rights {
	return Rights{
		Withdraw: lists(find(answer, "result", "permissions"), "withdraw-funds"),
		IPList:   addressed(find(answer, "result", "ipAllowlist")),
		Expires:  since1970(find(answer, "result", "validUntil"), time.Second),
	}
}

func krakenOrders() []row {
	// leverage borrows and close[…] attaches an order: not listed.
	const order = "userref cl_ord_id ordertype type volume displayvol price price2 trigger reduce_only stptype" +
		" oflags=post|fcib|fciq|nompp|viqc timeinforce starttm expiretm"
	fields := shape{
		symbol: "pair", side: "type", kind: "ordertype", quantity: "volume", price: "price", client: "cl_ord_id", fix: krakenSize,
	}
	batch := fields
	batch.list, batch.each = "orders", order
	return []row{
		{op: Trade, line: "POST /0/private/AddOrder", takes: order + " pair deadline validate", shape: &fields},
		{op: Trade, line: "POST /0/private/AddOrderBatch", takes: "orders{} pair deadline validate", shape: &batch},
		{
			// The order is named by its id alone: pair only says what kind of market it is in, so the symbol isn't known.
			op: Trade, line: "POST /0/private/AmendOrder",
			takes: "txid cl_ord_id order_qty display_qty limit_price trigger_price pair post_only deadline",
			shape: &shape{quantity: "order_qty", price: "limit_price", client: "cl_ord_id"},
		},
		{
			op: Trade, line: "POST /0/private/EditOrder",
			takes: "userref txid volume displayvol pair price price2 oflags=post|fcib|fciq|nompp|viqc deadline cancel_response validate",
			// Here too: what the venue makes of another pair than the order's isn't documented.
			shape: &shape{quantity: "volume", price: "price", fix: krakenSize},
		},
		{op: Cancel, line: "POST /0/private/CancelOrder", takes: "txid cl_ord_id", shape: &shape{client: "cl_ord_id", names: "txid cl_ord_id"}},
		{op: Cancel, line: "POST /0/private/CancelOrderBatch", takes: "orders[] cl_ord_ids[]", shape: &shape{names: "orders cl_ord_ids"}},
		{op: Cancel, line: "POST /0/private/CancelAll", exact: true},
		{op: Cancel, line: "POST /0/private/CancelAllOrdersAfter", takes: "timeout", exact: true},
		{op: Session, line: "POST /0/private/GetWebSocketsToken", grants: []Operation{Read, Trade, Cancel}},
	}
}

// krakenSize reads what changes the meaning of volume and price: with the flag viqc
// the volume is in quote currency, and stop orders with a limit have it in price2.
func krakenSize(e *Effect, given, _ fields) error {
	if flags := given.get("oflags"); flags != nil && slices.Contains(strings.Split(flags.text, ","), "viqc") {
		e.Quantity, e.QuoteQuantity = "", e.Quantity
	}
	if limit := given.get("price2"); limit != nil && strings.HasSuffix(e.Type, "-limit") {
		e.Price = limit.text
	}
	return nil
}

func krakenFunds() []row {
	moves := shape{asset: "asset", quantity: "amount", address: "to"}
	earn := shape{quantity: "amount", address: "strategy_id"}
	stake := shape{asset: "asset", quantity: "amount", address: "method"}
	return []row{
		// key is the name that the destination has in the account's address book.
		{
			op: Withdraw, line: "POST /0/private/Withdraw", takes: "asset! key! amount! aclass address max_fee",
			shape: &shape{asset: "asset", quantity: "amount", address: "key"},
		},
		{op: Transfer, line: "POST /0/private/WithdrawCancel", takes: "asset! refid!", shape: &shape{asset: "asset"}},
		{op: Transfer, line: "POST /0/private/WalletTransfer", takes: "asset! from! to! amount!", shape: &moves},
		{op: Transfer, line: "POST /0/private/AccountTransfer", takes: "asset! from! to! amount! asset_class", shape: &moves},
		{op: Transfer, line: "POST /0/private/Earn/Allocate", takes: "strategy_id! amount!", shape: &earn},
		{op: Transfer, line: "POST /0/private/Earn/Deallocate", takes: "strategy_id! amount!", shape: &earn},
		{op: Transfer, line: "POST /0/private/Stake", takes: "asset! amount! method!", shape: &stake},
		{op: Transfer, line: "POST /0/private/Unstake", takes: "asset! amount!", shape: &shape{asset: "asset", quantity: "amount"}},
		{op: Read, line: "POST /0/private/DepositAddresses", takes: "asset aclass method new amount", judge: krakenAddresses},
		{op: Admin, line: "POST /0/private/CreateSubaccount", takes: "username email"},
		{op: Admin, line: "POST /0/private/RemoveExport", takes: "id type"},
	}
}

// krakenAddresses tells the reading of deposit addresses from the making of a new one.
func krakenAddresses(given fields, _ *row) ([]Effect, error) {
	if fresh := given.get("new"); fresh != nil && fresh.text != "false" {
		return []Effect{{Operation: Admin}}, nil
	}
	return []Effect{{Operation: Read}}, nil
}
