package venue

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

const form = "application/x-www-form-urlencoded"

func TestNewRequestRefuses(t *testing.T) {
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	tests := []struct {
		name, method, host, target, contentType, body string
		want                                          string // part of the message
	}{
		{name: "method", method: "TRACE", want: "TRACE"},
		{name: "lower-case method", method: "get", want: "get"},
		{name: "empty host", host: " ", want: "host"},
		{name: "user in host", host: "u@api.example.com", want: "host"},
		{name: "port that is no number", host: "api.example.com:x", want: "port"},
		{name: "host with a dot at its end", host: "api.example.com.", want: "host"},
		{name: "no path", target: "orders", want: "begin with /"},
		{name: "parent", target: "/api/../sapi/v1/withdraw", want: `".."`},
		{name: "self", target: "/api/./order", want: `"."`},
		{name: "empty segment", target: "/api//order", want: "//"},
		{name: "encoded dot", target: "/api/%2e%2e/order", want: "%2e"},
		{name: "encoded slash", target: "/api%2forder", want: "%2f"},
		{name: "encoded slash, upper case", target: "/api%2Forder", want: "%2F"},
		{name: "encoded backslash", target: "/api%5Corder", want: "%5C"},
		{name: "encoded letter", target: "/%61pi", want: "%61"},
		{name: "encoded percent", target: "/a%252fb", want: "%25"},
		{name: "encoded NUL", target: "/a%00", want: "%00"},
		{name: "lower-case encoding", target: "/%c3%a9", want: "%c3"},
		{name: "broken encoding in the path", target: "/a%2", want: "percent-encoding"},
		{name: "invalid UTF-8 in the path", target: "/%FF", want: "UTF-8"},
		{name: "semicolon in the path", target: "/a;b", want: `";"`},
		{name: "backslash", target: `/a\b`, want: `"\"`},
		{name: "space", target: "/a b", want: "space"},
		{name: "line break", target: "/a\r\nX: y", want: "control"},
		{name: "raw letter outside ASCII", target: "/é", want: "percent-encoded"},
		{name: "fragment", target: "/a#b", want: `"#"`},
		{name: "fragment in the query", target: "/a?b=c#d", want: `"#"`},
		{name: "second empty query", target: "/a??", want: `"="`},
		{name: "semicolon in the query", target: "/a?b=1;c=2", want: `";"`},
		{name: "broken encoding in the query", target: "/a?b=%zz", want: "percent-encoding"},
		{name: "cut encoding in the query", target: "/a?b=%2", want: "percent-encoding"},
		{name: "invalid UTF-8 in the query", target: "/a?b=%C3%28", want: "UTF-8"},
		{name: "overlong UTF-8", target: "/a?b=%C0%AF", want: "UTF-8"},
		{name: "control character in the query", target: "/a?b=%0d%0a", want: "control"},
		{name: "name without a value", target: "/a?b", want: `"="`},
		{name: "value without a name", target: "/a?=b", want: "name"},
		{name: "empty parameter", target: "/a?b=1&&c=2", want: "name"},
		{name: "parameter twice", target: "/a?b=1&b=2", want: "twice"},
		{name: "parameter twice in other case", target: "/a?symbol=1&Symbol=2", want: "twice"},
		{name: "parameter twice in other encoding", target: "/a?symbol=1&%73ymbol=2", want: "twice"},
		{name: "parameter twice by Unicode folding", target: "/a?symbol=1&%C5%BFymbol=2", want: "twice"},
		{name: "parameter in query and form", method: "POST", target: "/a?symbol=1", contentType: form, body: "symbol=2", want: "twice"},
		{name: "parameter in query and JSON", method: "POST", target: "/a?symbol=1", body: `{"SYMBOL":"2"}`, want: "both the query and the body"},
		{name: "body with GET", method: "GET", body: "a=b", want: "GET"},
		{name: "binary body", method: "POST", contentType: form, body: "a=\xff", want: "UTF-8"},
		{name: "unknown content type", method: "POST", contentType: "text/plain", body: "a=b", want: "content type"},
		{name: "multipart", method: "POST", contentType: "multipart/form-data; boundary=x", body: "--x", want: "content type"},
		{name: "other charset", method: "POST", contentType: "application/json; charset=utf-16", body: "{}", want: "content type"},
		{name: "control character in the content type", method: "POST", contentType: "application/json\r\nX: y", body: "{}", want: "control"},
		{name: "raw space in a form", method: "POST", contentType: form, body: "a=b c", want: "space"},
		{name: "line break after a form", method: "POST", contentType: form, body: "a=b\n", want: "control"},
		{name: "raw semicolon in a form", method: "POST", contentType: form, body: "a=b;c=d", want: `";"`},
		{name: "form that is JSON", method: "POST", contentType: form, body: `{"a":1}`, want: "form"},
		{name: "quotation mark in the query", target: `/a?b="c"`, want: `"""`},
		{name: "JSON that is a form", method: "POST", contentType: "application/json", body: "a=1", want: "not valid JSON"},
		{name: "JSON text", method: "POST", contentType: "application/json", body: `"a"`, want: "neither an object nor a list"},
		{name: "cut JSON", method: "POST", body: `{"a":1`, want: "not valid JSON"},
		{name: "JSON with more after it", method: "POST", body: `{"a":1}{"a":2}`, want: "after its end"},
		{name: "JSON member twice", method: "POST", body: `{"a":1,"a":2}`, want: "twice"},
		{name: "JSON member twice in other case", method: "POST", body: `{"a":1,"A":2}`, want: "twice"},
		{name: "JSON member twice, escaped", method: "POST", body: `{"a":1,"\u0061":2}`, want: "twice"},
		{name: "JSON member twice, deep", method: "POST", body: `{"a":[{"b":{"c":1,"C":2}}]}`, want: "twice"},
		{name: "JSON number that loses digits", method: "POST", body: `{"a":0.12345678901234567890}`, want: "loses digits"},
		{name: "JSON integer above 2^53", method: "POST", body: `{"a":9007199254740993}`, want: "loses digits"},
		{name: "JSON number too large", method: "POST", body: `{"a":1e999}`, want: "loses digits"},
		{name: "JSON number too small", method: "POST", body: `{"a":1e-999}`, want: "loses digits"},
		{name: "JSON with half a surrogate", method: "POST", body: `{"a":"\ud800"}`, want: "surrogate"},
		{name: "JSON with a control character", method: "POST", body: `{"a":"\u0000"}`, want: "control"},
		{name: "JSON nested deeply", method: "POST", body: deep, want: "nested"},
		{name: "JSON with a byte order mark", method: "POST", contentType: "application/json", body: "\ufeff{}", want: "not valid JSON"},
		{name: "JSON with many values", method: "POST", body: "[" + strings.Repeat("0,", 9000) + "0]", want: "more than"},
		{name: "long body", method: "POST", contentType: form, body: "a=" + strings.Repeat("b", MaxBody), want: "limit"},
		{name: "long target", target: "/" + strings.Repeat("a", maxTarget), want: "limit"},
		{name: "many parameters", target: "/?a0=1" + manyParams(300), want: "limit"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := NewRequest(or(test.method, "GET"), strings.TrimSpace(or(test.host, "api.example.com")), or(test.target, "/a"), test.contentType, []byte(test.body))
			checkRefused(t, err, test.want)
		})
	}
}

func manyParams(count int) string {
	var b strings.Builder
	for i := range count {
		b.WriteString("&p" + strings.Repeat("x", i) + "=1")
	}
	return b.String()
}

func or(given, otherwise string) string {
	if given == "" {
		return otherwise
	}
	return given
}

// checkRefused expects a BAD_REQUEST whose message has want in it.
func checkRefused(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.Is(err, fault.BadRequest) {
		t.Fatalf("got %v, want a BAD_REQUEST about %q", err, want)
	}
	if message := fault.From(err).Message; !strings.Contains(message, want) {
		t.Errorf("message %q has no %q", message, want)
	}
}

func TestNewRequestAccepts(t *testing.T) {
	tests := []struct {
		name, method, target, contentType, body string
		kind                                    bodyKind
	}{
		{name: "root", method: "GET", target: "/"},
		{name: "empty query", method: "GET", target: "/a?"},
		{name: "encoded letters in the path", method: "GET", target: "/caf%C3%A9/a%20b"},
		{name: "slash at the end", method: "GET", target: "/orders/"},
		{name: "what libraries leave unencoded", method: "GET", target: "/a?b=[1,2]&c={x}&d=a|b&e='!()*:@/?$,"},
		{name: "empty value", method: "GET", target: "/a?b="},
		{name: "equals sign in a value", method: "GET", target: "/a?b=c=d"},
		{name: "plus", method: "GET", target: "/a?b=c+d"},
		{name: "content type of an empty body", method: "GET", target: "/a", contentType: "text/plain"},
		{name: "form", method: "POST", target: "/a", contentType: form, body: "a=1&b=%7B", kind: formBody},
		{name: "form with a charset", method: "POST", target: "/a", contentType: form + "; charset=UTF-8", body: "a=1", kind: formBody},
		{name: "form with raw JSON in it", method: "POST", target: "/a", contentType: form, body: `a=[{"b":"c"}]&d=1`, kind: formBody},
		{name: "form without a type", method: "POST", target: "/a", body: "a=1", kind: formBody},
		{name: "JSON without a type", method: "POST", target: "/a", body: " \n{\"a\": 1}\n", kind: jsonBody},
		{name: "JSON list", method: "POST", target: "/a", contentType: "application/json", body: `[{"a":1},{"a":2}]`, kind: jsonBody},
		{name: "JSON numbers", method: "POST", target: "/a", body: `{"a":0.1,"b":1e5,"c":-0,"d":9007199254740992,"e":1.50,"f":100000000000000000000}`, kind: jsonBody},
		{name: "JSON escapes", method: "POST", target: "/a", body: `{"a":"\u00e9\ud83d\ude00\/\"\\"}`, kind: jsonBody},
		{name: "DELETE with a body", method: "DELETE", target: "/a", body: `{"a":1}`, kind: jsonBody},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := NewRequest(test.method, "API.example.com:443", test.target, test.contentType, []byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			if r.Host != "api.example.com" || r.body != test.kind || string(r.Body) != test.body {
				t.Errorf("got host %s, kind %d, body %q", r.Host, r.body, r.Body)
			}
			if target := strings.TrimSuffix(r.Path+"?"+r.Query, "?"); target != strings.TrimSuffix(test.target, "?") {
				t.Errorf("got target %s", target)
			}
		})
	}
}

func TestRequestDecodes(t *testing.T) {
	r, err := NewRequest("POST", "api.example.com", "/a?one=%C3%A9+x", "", []byte(`{"tw\u006f":"\ud83d\ude00","three":1.50,"four":[1]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"one": "é x", "two": "😀", "three": "1.50"} {
		if p := r.fields().get(name); p == nil || p.text != want {
			t.Errorf("%s is %+v, want %q", name, p, want)
		}
	}
	if p := r.fields().get("four"); p == nil || p.kind != array {
		t.Errorf("four is %+v, want a list", p)
	}
	if p := r.fields().get("Three"); p != nil {
		t.Error("a name is found in another case")
	}
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string][2]string{
		"https://api.example.com/a/b?c=d":  {"api.example.com", "/a/b?c=d"},
		"HTTPS://API.example.com:443":      {"api.example.com", "/"},
		"https://api.example.com:9443?a=b": {"api.example.com:9443", "/?a=b"},
		"https://127.0.0.1:9443/a":         {"127.0.0.1:9443", "/a"},
		"https://[::1]:9443/a":             {"[::1]:9443", "/a"},
		"https://[::1]/a":                  {"[::1]", "/a"},
	} {
		host, target, err := ParseURL(raw)
		if err != nil || host != want[0] || target != want[1] {
			t.Errorf("%s: %s, %s, %v", raw, host, target, err)
		}
	}
	for raw, want := range map[string]string{
		"http://api.example.com/":               "https://",
		"api.example.com/":                      "https://",
		"":                                      "https://",
		"https:///a":                            "host",
		"https://user:secret@api.example.com/a": "user",
		"https://api.example.com/a#b":           "fragment",
		"https://api.example.com#b":             "fragment",
		"https://api.example.com\\.evil.com/a":  "host",
		"https://api..com/a":                    "host",
		"https://[::1/a":                        "host",
		"https://api.example.com:0443/a":        "port",
	} {
		_, _, err := ParseURL(raw)
		checkRefused(t, err, want)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the password", raw)
		}
	}
}
