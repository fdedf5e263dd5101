package venue

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

// line is a request as a test writes it: "POST /path?query body".
func line(t testing.TB, venue, line string) (*Venue, *Call, error) {
	t.Helper()
	v, ok := Builtin(venue)
	if !ok {
		t.Fatalf("no venue %s", venue)
	}
	method, rest, _ := strings.Cut(line, " ")
	target, body, _ := strings.Cut(rest, " ")
	host := v.Hosts("production")[0]
	if strings.HasPrefix(target, "/fapi/") || strings.HasPrefix(target, "/futures/") {
		host = "fapi.binance.com"
	}
	r, err := NewRequest(method, host, target, "", []byte(body))
	if err != nil {
		return v, nil, err
	}
	call, err := v.Classify(&r)
	return v, call, err
}

func TestEffects(t *testing.T) {
	session := []Operation{Read, Trade, Cancel}
	tests := []struct {
		venue, line string
		want        []Effect
	}{
		{"binance", "GET /api/v3/time", []Effect{{Operation: Public}}},
		{"binance", "GET /api/v3/account?omitZeroBalances=true", []Effect{{Operation: Read}}},
		{"binance", "GET /api/v3/Account", []Effect{{Operation: Unknown, ExactLine: true}}},
		{"binance", "GET /api/v3/account/", []Effect{{Operation: Unknown, ExactLine: true}}},
		{"binance", "POST /sapi/v1/margin/order symbol=BTCUSDT&sideEffectType=MARGIN_BUY", []Effect{{Operation: Unknown, ExactLine: true}}},
		{"binance", "POST /api/v3/order symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.1&price=20000&newClientOrderId=a%20b&recvWindow=5000&timestamp=1&signature=x", []Effect{
			{Operation: Trade, Symbol: "BTCUSDT", Side: "buy", Type: "LIMIT", Quantity: "0.1", Price: "20000", ClientOrderID: "a b"},
		}},
		{"binance", "POST /api/v3/order?symbol=BTCUSDT&side=SELL type=MARKET&quoteOrderQty=10", []Effect{
			{Operation: Trade, Symbol: "BTCUSDT", Side: "sell", Type: "MARKET", QuoteQuantity: "10"},
		}},
		{"binance", "POST /api/v3/order/cancelReplace symbol=A&side=BUY&type=LIMIT&quantity=1&price=2&cancelReplaceMode=STOP_ON_FAILURE&cancelOrderId=7", []Effect{
			{Operation: Cancel, Symbol: "A", Named: true},
			{Operation: Trade, Symbol: "A", Side: "buy", Type: "LIMIT", Quantity: "1", Price: "2"},
		}},
		{"binance", "POST /api/v3/orderList/oco symbol=A&side=SELL&quantity=1&aboveType=LIMIT_MAKER&abovePrice=9&belowType=STOP_LOSS&belowStopPrice=5", []Effect{
			{Operation: Trade, Symbol: "A", Side: "sell", Quantity: "1", Type: "LIMIT_MAKER", Price: "9"},
			{Operation: Trade, Symbol: "A", Side: "sell", Quantity: "1", Type: "STOP_LOSS"},
		}},
		{"binance", "DELETE /api/v3/order?symbol=A&orderId=1", []Effect{{Operation: Cancel, Symbol: "A", Named: true}}},
		{"binance", "DELETE /api/v3/order symbol=A&origClientOrderId=x", []Effect{{Operation: Cancel, Symbol: "A", ClientOrderID: "x", Named: true}}},
		{"binance", "DELETE /api/v3/openOrders?symbol=A", []Effect{{Operation: Cancel, Symbol: "A", ExactLine: true}}},
		{"binance", "POST /api/v3/userDataStream", []Effect{{Operation: Session, Grants: []Operation{Read}}}},
		{"binance", "POST /sapi/v1/capital/withdraw/apply coin=XRP&network=XRP&address=r1&addressTag=42&amount=5", []Effect{
			{Operation: Withdraw, Asset: "XRP", Network: "XRP", Address: "r1", Tag: "42", Quantity: "5"},
		}},
		{"binance", "POST /sapi/v1/asset/transfer type=MAIN_FUNDING&asset=BTC&amount=1", []Effect{{Operation: Transfer, Asset: "BTC", Quantity: "1"}}},
		{"binance", "POST /fapi/v1/batchOrders batchOrders=%5B%7B%22symbol%22%3A%22A%22%2C%22side%22%3A%22BUY%22%2C%22quantity%22%3A%221%22%7D%2C%7B%22symbol%22%3A%22B%22%2C%22side%22%3A%22SELL%22%2C%22quantity%22%3A2%7D%5D", []Effect{
			{Operation: Trade, Symbol: "A", Side: "buy", Quantity: "1"}, {Operation: Trade, Symbol: "B", Side: "sell", Quantity: "2"},
		}},
		{"binance", `POST /fapi/v1/batchOrders batchOrders=[{"symbol":"A","side":"BUY","quantity":"1"}]`, []Effect{
			{Operation: Trade, Symbol: "A", Side: "buy", Quantity: "1"},
		}},
		{"binance", "DELETE /fapi/v1/batchOrders?symbol=A&orderIdList=%5B1%2C2%5D", []Effect{{Operation: Cancel, Symbol: "A", Named: true}}},
		{"binance", "POST /fapi/v1/countdownCancelAll symbol=A&countdownTime=1", []Effect{{Operation: Cancel, Symbol: "A", ExactLine: true}}},
		{"binance", "POST /fapi/v1/leverage symbol=A&leverage=5", []Effect{{Operation: Settings, Symbol: "A"}}},

		{"kraken", "GET /0/public/Ticker?pair=XBTUSD", []Effect{{Operation: Public}}},
		{"kraken", "POST /0/private/Balance", []Effect{{Operation: Read}}},
		{"kraken", "POST /0/private/AddOrder nonce=1&pair=XBT/USD&type=buy&ordertype=limit&volume=1.25&price=37500&cl_ord_id=a&oflags=post,fciq", []Effect{
			{Operation: Trade, Symbol: "XBT/USD", Side: "buy", Type: "limit", Quantity: "1.25", Price: "37500", ClientOrderID: "a"},
		}},
		{"kraken", "POST /0/private/AddOrder pair=XBTUSD&type=buy&ordertype=market&volume=100&oflags=viqc", []Effect{
			{Operation: Trade, Symbol: "XBTUSD", Side: "buy", Type: "market", QuoteQuantity: "100"},
		}},
		{"kraken", "POST /0/private/AddOrder pair=XBTUSD&type=sell&ordertype=stop-loss-limit&volume=1&price=9&price2=8", []Effect{
			{Operation: Trade, Symbol: "XBTUSD", Side: "sell", Type: "stop-loss-limit", Quantity: "1", Price: "8"},
		}},
		{"kraken", `POST /0/private/AddOrderBatch {"pair":"A","orders":[{"ordertype":"limit","type":"buy","volume":"1","price":"2"},{"ordertype":"limit","type":"sell","volume":3,"price":4}]}`, []Effect{
			{Operation: Trade, Symbol: "A", Side: "buy", Type: "limit", Quantity: "1", Price: "2"},
			{Operation: Trade, Symbol: "A", Side: "sell", Type: "limit", Quantity: "3", Price: "4"},
		}},
		{"kraken", `POST /0/private/CancelOrderBatch {"orders":["OABC","ODEF"]}`, []Effect{{Operation: Cancel, Named: true}}},
		{"kraken", "POST /0/private/CancelAll nonce=1", []Effect{{Operation: Cancel, ExactLine: true}}},
		{"kraken", "POST /0/private/GetWebSocketsToken", []Effect{{Operation: Session, Grants: session}}},
		{"kraken", "POST /0/private/DepositAddresses asset=XBT&method=Bitcoin", []Effect{{Operation: Read}}},
		{"kraken", "POST /0/private/DepositAddresses asset=XBT&method=Bitcoin&new=true", []Effect{{Operation: Admin}}},
		{"kraken", "POST /0/private/AmendOrder txid=OABC&pair=XBTUSD&order_qty=2", []Effect{{Operation: Trade, Quantity: "2"}}},
		{"kraken", "POST /0/private/Withdraw asset=XBT&key=cold&amount=1", []Effect{{Operation: Withdraw, Asset: "XBT", Address: "cold", Quantity: "1"}}},
		{"kraken", "POST /0/private/Unheard", []Effect{{Operation: Unknown, ExactLine: true}}},

		{"okx", "GET /api/v5/market/ticker?instId=BTC-USDT", []Effect{{Operation: Public}}},
		{"okx", `POST /api/v5/trade/order {"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","sz":"1","px":"2","clOrdId":"a","tgtCcy":"base_ccy"}`, []Effect{
			{Operation: Trade, Symbol: "BTC-USDT", Side: "buy", Type: "limit", Quantity: "1", Price: "2", ClientOrderID: "a"},
		}},
		{"okx", `POST /api/v5/trade/order {"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"market","sz":"100"}`, []Effect{
			{Operation: Trade, Symbol: "BTC-USDT", Side: "buy", Type: "market", QuoteQuantity: "100"},
		}},
		{"okx", `POST /api/v5/trade/order {"instId":"BTC-USDT","tdMode":"cash","side":"sell","ordType":"market","sz":"100","tgtCcy":"quote_ccy"}`, []Effect{
			{Operation: Trade, Symbol: "BTC-USDT", Side: "sell", Type: "market", QuoteQuantity: "100"},
		}},
		{"okx", `POST /api/v5/trade/order {"instId":"BTC-USDT-SWAP","tdMode":"cross","side":"buy","ordType":"market","sz":"3"}`, []Effect{
			{Operation: Trade, Symbol: "BTC-USDT-SWAP", Side: "buy", Type: "market", Quantity: "3"},
		}},
		{"okx", `POST /api/v5/trade/order-algo {"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"trigger","sz":"3","triggerPx":"9","orderPx":"-1"}`, []Effect{
			{Operation: Trade, Symbol: "BTC-USDT", Side: "buy", Type: "trigger", QuoteQuantity: "3"},
		}},
		{"okx", `POST /api/v5/trade/batch-orders [{"instId":"A-B","side":"buy","ordType":"limit","sz":"1","px":"2"},{"instId":"C-D","side":"sell","ordType":"limit","sz":"3","px":"4"}]`, []Effect{
			{Operation: Trade, Symbol: "A-B", Side: "buy", Type: "limit", Quantity: "1", Price: "2"},
			{Operation: Trade, Symbol: "C-D", Side: "sell", Type: "limit", Quantity: "3", Price: "4"},
		}},
		{"okx", `POST /api/v5/trade/cancel-batch-orders [{"instId":"A-B","ordId":"1"}]`, []Effect{{Operation: Cancel, Symbol: "A-B", Named: true}}},
		{"okx", `POST /api/v5/trade/cancel-all-after {"timeOut":"10"}`, []Effect{{Operation: Cancel, ExactLine: true}}},
		{"okx", `POST /api/v5/asset/withdrawal {"ccy":"BTC","amt":"1","dest":"4","toAddr":"bc1","chain":"BTC-Bitcoin"}`, []Effect{
			{Operation: Withdraw, Asset: "BTC", Quantity: "1", Network: "BTC-Bitcoin", Address: "bc1"},
		}},
		{"okx", `POST /api/v5/users/subaccount/apikey {"subAcct":"a","label":"b","passphrase":"c"}`, []Effect{{Operation: Admin}}},

		{"bybit", "GET /v5/market/tickers?category=spot", []Effect{{Operation: Public}}},
		{"bybit", "GET /v5/order/realtime?category=linear&symbol=BTCUSDT", []Effect{{Operation: Read}}},
		{"bybit", `POST /v5/order/create {"category":"linear","symbol":"A","side":"Buy","orderType":"Limit","qty":"1","price":"2","orderLinkId":"x"}`, []Effect{
			{Operation: Trade, Symbol: "A", Side: "buy", Type: "Limit", Quantity: "1", Price: "2", ClientOrderID: "x"},
		}},
		{"bybit", `POST /v5/order/create {"category":"spot","symbol":"A","side":"Buy","orderType":"Market","qty":"1"}`, []Effect{
			{Operation: Trade, Symbol: "A", Side: "buy", Type: "Market", QuoteQuantity: "1"},
		}},
		{"bybit", `POST /v5/order/create {"category":"spot","symbol":"A","side":"Buy","orderType":"Market","qty":"1","marketUnit":"baseCoin"}`, []Effect{
			{Operation: Trade, Symbol: "A", Side: "buy", Type: "Market", Quantity: "1"},
		}},
		{"bybit", `POST /v5/order/create-batch {"category":"spot","request":[{"symbol":"A","side":"Buy","orderType":"Market","qty":"1"},{"symbol":"B","side":"Sell","orderType":"Market","qty":"1"}]}`, []Effect{
			{Operation: Trade, Symbol: "A", Side: "buy", Type: "Market", QuoteQuantity: "1"}, {Operation: Trade, Symbol: "B", Side: "sell", Type: "Market", Quantity: "1"},
		}},
		{"bybit", `POST /v5/order/cancel-all {"category":"linear","settleCoin":"USDT"}`, []Effect{{Operation: Cancel, ExactLine: true}}},
		{"bybit", `POST /v5/asset/withdraw/create {"coin":"XRP","chain":"XRP","address":"r1","tag":"42","amount":"5","timestamp":1}`, []Effect{
			{Operation: Withdraw, Asset: "XRP", Network: "XRP", Address: "r1", Tag: "42", Quantity: "5"},
		}},

		{"coinbase-exchange", "GET /products/BTC-USD/book?level=1", []Effect{{Operation: Public}}},
		{"coinbase-exchange", "GET /orders/client:abc", []Effect{{Operation: Read}}},
		{"coinbase-exchange", `POST /orders {"product_id":"BTC-USD","side":"buy","type":"market","funds":"10"}`, []Effect{
			{Operation: Trade, Symbol: "BTC-USD", Side: "buy", Type: "market", QuoteQuantity: "10"},
		}},
		{"coinbase-exchange", "DELETE /orders/abc-123", []Effect{{Operation: Cancel, Named: true}}},
		{"coinbase-exchange", `DELETE /orders/client:abc {"product_id":"BTC/USD"}`, []Effect{{Operation: Cancel, Named: true}}},
		{"coinbase-exchange", `DELETE /orders {"product_id":"BTC-USD"}`, []Effect{{Operation: Cancel, Symbol: "BTC-USD", ExactLine: true}}},
		{"coinbase-exchange", "DELETE /orders", []Effect{{Operation: Cancel, ExactLine: true}}},
		{"coinbase-exchange", `POST /withdrawals/crypto {"amount":"1","currency":"XRP","crypto_address":"r1","destination_tag":"42"}`, []Effect{
			{Operation: Withdraw, Asset: "XRP", Quantity: "1", Address: "r1", Tag: "42"},
		}},

		{"coinbase-cdp", "GET /api/v3/brokerage/market/products/BTC-USD", []Effect{{Operation: Public}}},
		{"coinbase-cdp", "GET /api/v3/brokerage/best_bid_ask?product_ids=BTC-USD", []Effect{{Operation: Read}}},
		{"coinbase-cdp", `POST /api/v3/brokerage/orders {"client_order_id":"x","product_id":"BTC-USD","side":"BUY","order_configuration":{"limit_limit_gtc":{"base_size":"1","limit_price":"2","post_only":true}}}`, []Effect{
			{Operation: Trade, Symbol: "BTC-USD", Side: "buy", Type: "limit_limit_gtc", Quantity: "1", Price: "2", ClientOrderID: "x"},
		}},
		{"coinbase-cdp", `POST /api/v3/brokerage/orders/batch_cancel {"order_ids":["a"]}`, []Effect{{Operation: Cancel, Named: true}}},
		{"coinbase-cdp", `POST /v2/accounts/abc/transactions {"type":"send","to":"bc1","amount":"1","currency":"BTC"}`, []Effect{
			{Operation: Withdraw, Asset: "BTC", Quantity: "1", Address: "bc1"},
		}},
		{"coinbase-cdp", `POST /api/v3/brokerage/portfolios/move_funds {"funds":{"value":"1","currency":"USD"},"source_portfolio_uuid":"a","target_portfolio_uuid":"b"}`, []Effect{
			{Operation: Transfer, Asset: "USD", Quantity: "1", Address: "b"},
		}},

		{"tokenmetrics", "GET /v2/tokens?symbol=BTC", []Effect{{Operation: Read}}},
		{"tokenmetrics", `POST /v2/tmai {"messages":[]}`, []Effect{{Operation: Unknown, ExactLine: true}}},
	}
	for _, test := range tests {
		t.Run(test.venue+" "+test.line, func(t *testing.T) {
			_, call, err := line(t, test.venue, test.line)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(call.Effects, test.want) {
				t.Errorf("got %+v\nwant %+v", call.Effects, test.want)
			}
			if public := test.want[0].Operation == Public; call.Public() != public {
				t.Errorf("public: %v", call.Public())
			}
		})
	}
}

func TestClassifyRefuses(t *testing.T) {
	tests := []struct{ venue, line, want string }{
		// Parameters that borrow, set leverage, change a unit, name an account or attach an order.
		{"binance", "POST /api/v3/order symbol=A&side=BUY&sideEffectType=MARGIN_BUY", `"sideEffectType"`},
		{"binance", "POST /api/v3/order symbol=A&side=BUY&Price=1", `"Price"`},
		{"binance", "POST /api/v3/order symbol=A&side=BUY&asset=USDT&amount=1", `"asset"`},
		{"kraken", "POST /0/private/AddOrder pair=A&type=buy&leverage=5", `"leverage"`},
		{"kraken", "POST /0/private/AddOrder pair=A&type=buy&close%5Bordertype%5D=limit", `"close[ordertype]"`},
		{"kraken", "POST /0/private/AddOrder pair=A&type=buy&oflags=post,other", `"oflags"`},
		{"okx", `POST /api/v5/trade/order {"instId":"A-B","side":"buy","attachAlgoOrds":[]}`, `"attachAlgoOrds"`},
		{"okx", `POST /api/v5/trade/order {"instId":"A-B","side":"buy","tgtCcy":"other"}`, `"tgtCcy"`},
		{"okx", `POST /api/v5/trade/order {"instId":"A-B","side":"buy","ordType":"limit","tgtCcy":"quote_ccy"}`, "tgtCcy"},
		{"okx", `POST /api/v5/trade/order {"instId":"A-B","tdMode":"cross","side":"buy"}`, "borrow"},
		{"bybit", `POST /v5/order/create {"category":"spot","symbol":"A","side":"Buy","isLeverage":1}`, `"isLeverage"`},
		{"bybit", `POST /v5/order/create {"category":"linear","symbol":"A","side":"Buy","orderType":"Limit","marketUnit":"quoteCoin"}`, "marketUnit"},
		{"bybit", `POST /v5/order/create {"category":"linear","symbol":"A","side":"Buy","takeProfit":"1"}`, `"takeProfit"`},
		{"coinbase-exchange", `POST /orders {"product_id":"A","side":"buy","profile_id":"x"}`, `"profile_id"`},
		{"coinbase-cdp", `POST /api/v3/brokerage/orders {"product_id":"A","side":"BUY","leverage":"2","order_configuration":{}}`, `"leverage"`},
		{"coinbase-cdp", `POST /api/v3/brokerage/orders {"product_id":"A","side":"BUY","order_configuration":{}}`, "empty"},
		{"coinbase-cdp", `POST /api/v3/brokerage/orders {"product_id":"A","side":"BUY","order_configuration":{"a":{},"b":{}}}`, "more than one"},
		{"coinbase-cdp", `POST /api/v3/brokerage/orders {"product_id":"A","side":"BUY","order_configuration":{"a":{"orders":[]}}}`, `"orders"`},
		{"coinbase-cdp", `POST /api/v3/brokerage/orders {"product_id":"A","side":"BUY","order_configuration":"a"}`, "order_configuration"},
		// Values of an unexpected type.
		{"okx", `POST /api/v5/trade/order {"instId":["A-B"],"side":"buy"}`, `"instId"`},
		{"okx", `POST /api/v5/trade/order {"instId":7,"side":"buy"}`, `"instId"`},
		{"okx", `POST /api/v5/trade/order {"instId":null,"side":"buy"}`, `"instId"`},
		{"okx", `POST /api/v5/trade/order {"instId":"A-B","side":"buy","sz":{"a":1}}`, `"sz"`},
		{"okx", `POST /api/v5/trade/order {"instId":"A-B","side":"buy","sz":true}`, `"sz"`},
		{"okx", `POST /api/v5/trade/order {"instId":"A-B","side":"both"}`, "side"},
		// Batches.
		{"okx", `POST /api/v5/trade/batch-orders {"instId":"A-B"}`, "JSON body"},
		{"okx", `POST /api/v5/trade/order [{"instId":"A-B"}]`, "JSON body"},
		{"okx", `POST /api/v5/trade/batch-orders []`, "no orders"},
		{"bybit", `POST /v5/order/create-batch {"category":"spot","request":[]}`, "empty"},
		{"bybit", `POST /v5/order/create-batch {"category":"spot","request":{"symbol":"A"}}`, "unexpected type"},
		{"kraken", `POST /0/private/CancelOrderBatch {"orders":[]}`, "empty"},
		{"kraken", `POST /0/private/CancelOrderBatch {"orders":[{"txid":"A"}]}`, "an object"},
		{"coinbase-cdp", `POST /api/v3/brokerage/orders/batch_cancel {"order_ids":[null]}`, "null"},
		{"okx", `POST /api/v5/trade/batch-orders`, "no orders"},
		{"okx", `POST /api/v5/trade/batch-orders ["A-B"]`, "in place of an order"},
		{"okx", `POST /api/v5/trade/batch-orders [{"instId":"A-B","side":"buy"},{"instId":"A-B","side":"buy","ccy":"X"}]`, `"ccy"`},
		{"binance", "POST /fapi/v1/batchOrders symbol=A", `"symbol"`},
		{"binance", "POST /fapi/v1/batchOrders", `"batchOrders"`},
		{"binance", "POST /fapi/v1/batchOrders batchOrders=x", "JSON"},
		{"binance", "POST /fapi/v1/batchOrders batchOrders=%5B%7B%22symbol%22%3A%22A%22%2C%22Symbol%22%3A%22B%22%7D%5D", "twice"},
		{"binance", "POST /fapi/v1/batchOrders batchOrders=%5B%7B%22symbol%22%3A%22A%22%2C%22x%22%3A1%7D%5D", `"x"`},
		{"binance", "DELETE /fapi/v1/batchOrders?symbol=A&orderIdList=%7B%7D", `"orderIdList"`},
		{"binance", "DELETE /fapi/v1/batchOrders?symbol=A&orderIdList=%5B%7B%7D%5D", `"orderIdList"`},
		{"okx", "POST /api/v5/trade/batch-orders [" + strings.Repeat(`{"instId":"A-B","side":"buy"},`, maxOrders) + `{"instId":"A-B","side":"buy"}]`, "more than"},
		// Texts that would swell each effect of a batch, and its record.
		{"kraken", `POST /0/private/AddOrderBatch {"pair":"` + strings.Repeat("X", maxText+1) + `","orders":[{"type":"buy"},{"type":"sell"}]}`, "257 bytes"},
		{"kraken", `POST /0/private/AddOrder {"pair":"A","type":"buy","ordertype":"stop-loss-limit","price2":"` + strings.Repeat("1", maxText+1) + `"}`, "257 bytes"},
		{"coinbase-cdp", `POST /api/v3/brokerage/orders {"product_id":"A","side":"BUY","order_configuration":{"` + strings.Repeat("a", maxText+1) + `":{}}}`, "257 bytes"},
		{"okx", `POST /api/v5/asset/withdrawal-lightning {"ccy":"BTC","invoice":"` + strings.Repeat("l", maxAddress+1) + `"}`, "2049 bytes"},
		// A read that is judged by its parameters, in spellings that some servers take for "new".
		{"kraken", "POST /0/private/DepositAddresses asset=XBT&method=Bitcoin&new%5B%5D=1", `"new[]"`},
		{"kraken", "POST /0/private/DepositAddresses asset=XBT&method=Bitcoin&New=true", `"New"`},
		{"kraken", `POST /0/private/DepositAddresses {"asset":"XBT","method":"Bitcoin","new":[true]}`, `"new"`},
		// Cancels that name nothing.
		{"binance", "DELETE /api/v3/order?symbol=A", "no order"},
		{"binance", "DELETE /api/v3/order?symbol=A&orderId=", "no order"},
		{"kraken", "POST /0/private/CancelOrder nonce=1", "no order"},
		{"kraken", "POST /0/private/CancelAll txid=1", `"txid"`},
		// Carriers.
		{"binance", `POST /api/v3/order {"symbol":"A"}`, "content type"},
		{"binance", "POST /api/v3/order symbol=A&Timestamp=1", `"Timestamp"`},
		{"kraken", "POST /0/private/AddOrder?pair=A type=buy", "query"},
		{"kraken", "GET /0/private/Balance", "POST only"},
		{"kraken", `POST /0/private/Balance []`, "list"},
		{"kraken", `POST /0/private/AddOrder {"pair":"A","Nonce":"1"}`, `"Nonce"`},
		{"okx", `POST /api/v5/trade/order?instId=A-B {"side":"buy"}`, "query"},
		{"okx", `POST /api/v5/trade/order instId=A-B`, "content type"},
		{"bybit", `POST /v5/order/create?category=spot {"symbol":"A"}`, "query"},
		{"bybit", `POST /v5/unheard?category=spot {"symbol":"A"}`, "query"},
		{"okx", `DELETE /api/v5/trade/order {"instId":"A"}`, "DELETE"},
		{"coinbase-exchange", `DELETE /orders/abc {"profile_id":"A"}`, `"profile_id"`},
	}
	for _, test := range tests {
		t.Run(test.venue+" "+test.line, func(t *testing.T) {
			_, _, err := line(t, test.venue, test.line)
			checkRefused(t, err, test.want)
		})
	}
}

func TestClassifyRefusesOtherHosts(t *testing.T) {
	v, _ := Builtin("binance")
	r, err := NewRequest("GET", "api.binance.com.evil.example", "/api/v3/time", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Classify(&r); !errors.Is(err, fault.HostNotAllowed) {
		t.Errorf("got %v, want HOST_NOT_ALLOWED", err)
	}
	// Each host serves its own rows only.
	r, err = NewRequest("POST", "api.binance.com", "/fapi/v1/order", "", []byte("symbol=A"))
	if err != nil {
		t.Fatal(err)
	}
	call, err := v.Classify(&r)
	if err != nil || call.Effects[0].Operation != Unknown {
		t.Errorf("got %+v, %v, want an unknown request", call, err)
	}
}
