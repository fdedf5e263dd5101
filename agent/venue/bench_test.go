package venue

import "testing"

// orders are requests as a busy bot makes them.
var orders = []struct {
	venue, target, body string
	algorithm           Algorithm
}{
	{"binance", "/api/v3/order", "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.001&price=20000&newClientOrderId=x-1&recvWindow=5000&timestamp=1", HMACSHA256},
	{"okx", "/api/v5/trade/order", `{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","px":"20000","sz":"0.001","clOrdId":"x1"}`, HMACSHA256},
	{"kraken", "/0/private/AddOrder", "nonce=1&ordertype=limit&type=buy&pair=XBTUSD&volume=0.001&price=20000&cl_ord_id=x1", HMACSHA512},
	{"coinbase-cdp", "/api/v3/brokerage/orders", `{"client_order_id":"x1","product_id":"BTC-USD","side":"BUY","order_configuration":{"limit_limit_gtc":{"base_size":"0.001","limit_price":"20000"}}}`, ES256},
}

// BenchmarkClassify reads a request from its bytes and judges it.
func BenchmarkClassify(b *testing.B) {
	for _, order := range orders {
		b.Run(order.venue, func(b *testing.B) {
			v, _ := Builtin(order.venue)
			host := v.Hosts("production")[0]
			body := []byte(order.body)
			b.ReportAllocs()
			for b.Loop() {
				r, err := NewRequest("POST", host, order.target, "", body)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := v.Classify(&r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRender makes the message and, with a signature at hand, the request.
func BenchmarkRender(b *testing.B) {
	for _, order := range orders {
		b.Run(order.venue, func(b *testing.B) {
			v, _ := Builtin(order.venue)
			r, err := NewRequest("POST", v.Hosts("production")[0], order.target, "", []byte(order.body))
			if err != nil {
				b.Fatal(err)
			}
			call, err := v.Classify(&r)
			if err != nil {
				b.Fatal(err)
			}
			access := testAccess
			access.Algorithm = order.algorithm
			signature := make([]byte, 32)
			b.ReportAllocs()
			for b.Loop() {
				d, err := v.Render(&r, call, access, testStamp, "production")
				if err != nil {
					b.Fatal(err)
				}
				d.Finish(signature)
			}
		})
	}
}
