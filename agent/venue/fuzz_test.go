package venue

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRequest takes any bytes as a request of every venue: nothing panics, and
// what would be sent is what was judged.
func FuzzRequest(f *testing.F) {
	for _, c := range loadVectors(f) {
		if c.Request.Path != "" {
			f.Add(c.Request.Method, strings.TrimSuffix(c.Request.Path+"?"+c.Request.Query, "?"), c.Request.ContentType, c.Request.Body)
		}
	}
	for _, seed := range [][3]string{
		{"GET", "/api/../sapi", ""}, {"GET", "/a%2fb?c=%zz;d", ""}, {"POST", "/orders?a=1", `{"A":[1,{"b":"\ud83d\ude00"}],"a":1e400}`},
		{"POST", "/fapi/v1/batchOrders", "batchOrders=%5B%7B%22symbol%22%3A%22A%22%7D%5D&timestamp=1"},
		{"POST", "/api/v5/trade/batch-orders", `[{"instId":"A-B","side":"buy","ordType":"market","sz":"1"}]`},
		{"POST", "/v5/order/create-batch", `{"category":"spot","request":[{"symbol":"A","side":"Buy","orderType":"Market","qty":"1"}]}`},
		{"POST", "/api/v3/brokerage/orders", `{"product_id":"A","side":"BUY","order_configuration":{"market_market_ioc":{"quote_size":"1"}}}`},
		{"POST", "/0/private/AddOrderBatch", `{"nonce":1,"pair":"A","orders":[{"type":"buy","oflags":"viqc","volume":1}]}`},
		{"DELETE", "/api/v3/order", "symbol=A&orderId=1&signature=x"},
	} {
		f.Add(seed[0], seed[1], "", seed[2])
	}
	venues := signers(f)
	f.Fuzz(func(t *testing.T, method, target, contentType, body string) {
		for _, v := range venues {
			sendAndJudge(t, v, method, target, contentType, body)
		}
	})
}

// FuzzJSON holds parseJSON to the standard library's reading of what it accepts.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `null`, `"a"`, `-0.0e-0`, `{"a":[1,2,{"b":"\u00e9\n"}],"c":true}`, `{"a":1,"A":2}`, `{"a":1}x`, `"\ud800"`, `"\ud83d\ude00"`, `1e400`,
		`0.1000000000000000055`, `9007199254740993`, "[[[[[[[[[[[[[[[[[[", `{"K":1,"K":2}`, " [ 1 , 2 ] ", `{"":0}`, `01`, `1.`, `+1`, `'a'`, "\ufeff{}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		if !utf8.ValidString(source) {
			return
		}
		tape, err := parseJSON(source)
		if err != nil {
			return
		}
		decoder := json.NewDecoder(strings.NewReader(source))
		decoder.UseNumber()
		var want any
		if err := decoder.Decode(&want); err != nil {
			t.Fatalf("accepted what is no JSON: %v", err)
		}
		if got, _ := grow(tape, 0); !reflect.DeepEqual(got, want) {
			t.Fatalf("read as %#v, want %#v", got, want)
		}
		if tape[0].next != len(tape) {
			t.Fatal("the root is not all of the tape")
		}
		for i := range tape {
			if inner, err := parseJSON(source[tape[i].start:tape[i].end]); err != nil || inner[0].text != tape[i].text {
				t.Fatalf("the span of %+v does not hold it: %v", tape[i], err)
			}
		}
	})
}

// grow makes of a tape what encoding/json makes of its source.
func grow(tape []value, at int) (whole any, next int) {
	v := &tape[at]
	switch v.kind {
	case object:
		all := make(map[string]any)
		for i := at + 1; i < v.next; {
			name := tape[i].name
			all[name], i = grow(tape, i)
		}
		return all, v.next
	case array:
		all := []any{}
		for i := at + 1; i < v.next; {
			var one any
			one, i = grow(tape, i)
			all = append(all, one)
		}
		return all, v.next
	case str:
		return v.text, v.next
	case number:
		return json.Number(v.text), v.next
	case boolean:
		return v.text == "true", v.next
	}
	return nil, v.next
}

// FuzzTemplate makes venues of any templates: what is accepted covers the
// request, and where it is bound, requests that look alike differ in it.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{
		"{timestamp_ms}{method}{path}{?query}{body}", "{method}\n{path}\n{query}\n{body_sha256_hex}", "{method}{path}{query}{body}", "{body}{path}{method}{?query}",
		"{method} {path}?{query} {body}{nonce}", "{", "{}", "{method", "{{path}}{body}", "{secret}", "{method}{path}{?query}{body_sha512_hex}{uuid}",
		"{host}{method}{path}{?query}{body}", `{"m":"{method}","p":"{path}{?query}","b":{body}}`,
	} {
		f.Add(seed, "{signature_hex}")
	}
	f.Add("{method}{path}{?query}{body}", "t={timestamp_s},v1={signature_base64}")
	f.Fuzz(func(t *testing.T, message, header string) {
		spec := acme()
		spec.Message = message
		spec.Headers = map[string]string{"X-Sign": header}
		v, problems := Custom(spec)
		if (v == nil) != (len(problems) > 0) {
			t.Fatalf("venue %v, problems %v", v, problems)
		}
		if v == nil {
			return
		}
		messages := make(map[string]string)
		for _, path := range []string{"/a", "/ab", "/a/b", "/a=b", "/ab=1"} {
			for _, query := range []string{"", "b=1", "b=1&c=2", "/a=b", "b={}", "b=?", "b=|/a"} {
				for _, body := range []string{"", "{}", "[]", `{"a":1}`, "b=1", "a=b=1", "0=0"} {
					for _, method := range []string{"POST", "PUT"} {
						request := method + " " + path + " ? " + query + " " + body
						got, bound := messageOf(v, method, path, query, body)
						if other := messages[got]; bound && other != "" {
							t.Fatalf("%q: %q and %q render the same message %q", message, request, other, got)
						} else if bound {
							messages[got] = request
						}
					}
				}
			}
		}
	})
}
