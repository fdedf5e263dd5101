package venue

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// signers are the venues to draw from: all built-in ones, and some of the config.
func signers(t testing.TB) []*Venue {
	t.Helper()
	spaced := acme()
	spaced.Message = "{method}\n{path}\n{query}\n{body}"
	hashed := acme()
	hashed.Message = "{body_sha256_hex}{method}{path}{?query}"
	return append(builtins(), custom1(t, acme()), custom1(t, spaced), custom1(t, hashed))
}

// TestBoundMessagesDiffer cuts one text into method, path, query and body at any
// places: no two requests that are bound render one message.
func TestBoundMessagesDiffer(t *testing.T) {
	venues := signers(t)
	rapid.Check(t, func(t *rapid.T) {
		v := venues[rapid.IntRange(0, len(venues)-1).Draw(t, "venue")]
		text := rapid.StringMatching(`/[a/]{0,3}(\?[a=&?\[{]{0,4})?([\[{]("a":[\[{1]?)?[}\]]{0,2}|a=[a&=]{0,3})?`).Draw(t, "text")
		messages := make(map[string]string)
		for first := range len(text) + 1 {
			for second := first; second <= len(text); second++ {
				path, query, body := text[:first], strings.TrimPrefix(text[first:second], "?"), text[second:]
				if strings.Contains(path, "?") {
					continue // the same as another cut
				}
				for _, method := range []string{"GET", "POST", "DELETE"} {
					message, bound := messageOf(v, method, path, query, body)
					request := method + " " + path + " ? " + query + " " + body
					if other := messages[message]; bound && other != "" && other != request {
						t.Fatalf("%s: %q and %q render the same message %q", v.name, request, other, message)
					} else if bound {
						messages[message] = request
					}
				}
			}
		}
	})
}

// messageOf renders a request; bound is false where it is refused or not bound.
func messageOf(v *Venue, method, path, query, body string) (message string, bound bool) {
	target := path
	if query != "" {
		target += "?" + query
	}
	r, err := NewRequest(method, v.Hosts("production")[0], target, "", []byte(body))
	if err != nil {
		return "", false
	}
	call, err := v.Classify(&r)
	if err != nil || call.Binding.Loose != "" || call.Public() {
		return "", false
	}
	access := testAccess
	access.Algorithm = v.Algorithms()[0]
	d, err := v.Render(&r, call, access, testStamp, "production")
	if err != nil {
		return "", false
	}
	return string(d.Message), true
}

// TestSentIsJudged signs requests with random parameters: what goes to the venue
// has the effects that were judged, and is accepted again.
func TestSentIsJudged(t *testing.T) {
	venues := signers(t)
	rapid.Check(t, func(t *rapid.T) {
		v := venues[rapid.IntRange(0, len(venues)-1).Draw(t, "venue")]
		row := &v.rows[rapid.IntRange(0, len(v.rows)-1).Draw(t, "row")]
		var names []string
		for name := range row.parameters {
			names = append(names, name)
		}
		names = append(names, "timestamp", "nonce", "signature", "x")
		members := make(map[string]any)
		var pairs []string
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 6, rapid.ID).Draw(t, "names") {
			value := rapid.SampledFrom([]string{"", "1", "buy", "SELL", "A-B", "market", "a b", "post,viqc", "é", `"`}).Draw(t, name)
			members[name] = value
			pairs = append(pairs, name+"="+string(appendPercent(nil, []byte(value))))
		}
		target, body := strings.TrimSuffix(strings.NewReplacer("{", "", "}", "").Replace(row.path), "*"), ""
		switch asJSON, _ := json.Marshal(members); {
		case len(pairs) == 0:
		case row.method == "GET" || rapid.Bool().Draw(t, "in query"):
			target += "?" + strings.Join(pairs, "&")
		case rapid.Bool().Draw(t, "form"):
			body = strings.Join(pairs, "&")
		default:
			body = string(asJSON)
		}
		sendAndJudge(t, v, row.method, target, "", body)
	})
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func targetOf(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}

// sendAndJudge takes a request through all of the package, if it is accepted, and
// checks that what is sent is read as what was judged.
func sendAndJudge(t fataler, v *Venue, method, target, contentType, body string) {
	path, _, _ := strings.Cut(target, "?")
	var host string
	for _, h := range v.environments[0].hosts {
		if host == "" || h.serves(path) {
			host = h.name
		}
	}
	r, err := NewRequest(method, host, target, contentType, []byte(body))
	if err != nil {
		return
	}
	again, err := NewRequest(r.Method, r.Host, targetOf(r.Path, r.Query), r.ContentType, r.Body)
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Fatalf("%s %s: read again: %v", method, target, err)
	}
	call, err := v.Classify(&r)
	if err != nil {
		return
	}
	if len(call.Effects) == 0 {
		t.Fatalf("%s %s %s: no effects", v.name, method, target)
	}
	access := testAccess
	access.Algorithm = v.signs[0].algorithm
	d, err := v.Render(&r, call, access, testStamp, v.environments[0].name)
	if err != nil {
		t.Fatalf("%s %s %s: %v", v.name, method, target, err)
	}
	signed := d.Finish([]byte("SIG"))
	if len(r.pairs) > maxParams-2 || len(signed.Query)+len(signed.Path) > maxTarget || len(signed.Body) > MaxBody {
		return // what the agent adds may go beyond the limits
	}
	sent, err := NewRequest(signed.Method, signed.Host, targetOf(signed.Path, signed.Query), headerOf(signed, "Content-Type"), signed.Body)
	if err != nil {
		t.Fatalf("%s %s %s %s: what is sent is refused: %v", v.name, method, target, body, err)
	}
	judged, err := v.Classify(&sent)
	if err != nil || !reflect.DeepEqual(judged.Effects, call.Effects) || judged.row != call.row {
		t.Fatalf("%s %s %s %s: what is sent does %+v, judged was %+v (%v)", v.name, method, target, body, judged, call.Effects, err)
	}
	if !call.Public() && (d.Message == nil) != (v.message == nil || d.keyed) {
		t.Fatalf("%s %s %s: message %q", v.name, method, target, d.Message)
	}
}

// TestBatchHidesNothing: each order of a batch is an effect, in its place.
func TestBatchHidesNothing(t *testing.T) {
	batches := []struct{ venue, target, list, symbol string }{
		{"okx", "/api/v5/trade/batch-orders", "", "instId"},
		{"okx", "/api/v5/trade/amend-batch-orders", "", "instId"},
		{"bybit", "/v5/order/create-batch", "request", "symbol"},
		{"binance", "/fapi/v1/batchOrders", "batchOrders", "symbol"},
	}
	rapid.Check(t, func(t *rapid.T) {
		batch := rapid.SampledFrom(batches).Draw(t, "batch")
		symbols := rapid.SliceOfN(rapid.SampledFrom([]string{"GOOD", "BAD", "good", ""}), 1, 20).Draw(t, "symbols")
		var orders []map[string]string
		for _, symbol := range symbols {
			orders = append(orders, map[string]string{batch.symbol: symbol})
		}
		var whole any = orders
		if batch.list == "request" {
			whole = map[string]any{"request": orders}
		}
		raw, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		body := string(raw)
		if batch.list == "batchOrders" {
			body = "batchOrders=" + string(appendPercent(nil, raw))
		}
		v, _ := Builtin(batch.venue)
		host := v.Hosts("production")[0]
		if batch.venue == "binance" {
			host = "fapi.binance.com"
		}
		r, err := NewRequest("POST", host, batch.target, "", []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		call, err := v.Classify(&r)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range call.Effects {
			got = append(got, e.Symbol)
		}
		if !reflect.DeepEqual(got, symbols) {
			t.Fatalf("effects on %q, want %q", got, symbols)
		}
	})
}

// TestFoldIsEqualFold: names hash alike just where strings.EqualFold takes them for equal.
func TestFoldIsEqualFold(t *testing.T) {
	letters := rapid.StringOfN(rapid.SampledFrom([]rune("sSſkK\u212aσςΣωΩiIİıßẞåÅ\u212bǅa0_")), 0, 3, -1)
	rapid.Check(t, func(t *rapid.T) {
		a, b := letters.Draw(t, "a"), letters.Draw(t, "b")
		if equal := strings.EqualFold(a, b); equal != (fold(a) == fold(b)) {
			t.Fatalf("%q and %q: equal %v", a, b, equal)
		}
	})
}
