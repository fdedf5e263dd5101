package venue

import (
	"crypto"
	"encoding/hex"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

func acme() CustomSpec {
	return CustomSpec{
		Name:      "acme",
		Hosts:     map[string][]string{"production": {"api.acme.example"}},
		Algorithm: "hmac-sha256",
		Message:   "{timestamp_ms}{method}{path}{?query}{body}",
		Headers:   map[string]string{"ACME-KEY": "{api_key}", "ACME-TIME": "{timestamp_ms}", "ACME-SIGN": "v1={signature_hex}"},
		Operations: map[string][]string{
			"trade": {"POST /orders", "POST /orders/*"}, "withdraw": {"POST /payouts", "POST /orders/redeem"}, "read": {"GET /*"}, "public": {"GET /time"},
		},
	}
}

func custom1(t testing.TB, spec CustomSpec) *Venue {
	t.Helper()
	v, problems := Custom(spec)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return v
}

func TestCustom(t *testing.T) {
	v := custom1(t, acme())
	d := render(t, v, "POST", "api.acme.example", "/orders?a=1", "", `{"b": 2}`, testAccess, testStamp)
	if want := `1700000000123POST/orders?a=1{"b": 2}`; string(d.Message) != want {
		t.Errorf("message %s, want %s", d.Message, want)
	}
	signed := d.Finish([]byte("SIG"))
	for name, want := range map[string]string{
		"ACME-KEY": "KEY", "ACME-TIME": "1700000000123", "ACME-SIGN": "v1=534947", "Content-Type": "application/json",
	} {
		if got := headerOf(signed, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := v.AuthHeaders(); !slices.Equal(got, []string{"ACME-KEY", "ACME-SIGN", "ACME-TIME"}) {
		t.Errorf("owned: %v", got)
	}
	if v.Nonce() || v.Passphrase() || v.SecretEncoding() != "raw" || v.Template() == "" {
		t.Errorf("nonce %v, passphrase %v, secret %s, template %q", v.Nonce(), v.Passphrase(), v.SecretEncoding(), v.Template())
	}
}

func TestForwardHeaders(t *testing.T) {
	spec := acme()
	spec.Headers["accept"] = "application/json"
	if got := custom1(t, spec).ForwardHeaders(); slices.Contains(got, "Accept") || !slices.Contains(got, "User-Agent") {
		t.Errorf("forwarded: %v; the venue's own field must not be the app's too", got)
	}
}

func TestCustomOperations(t *testing.T) {
	v := custom1(t, acme())
	for request, want := range map[string]Effect{
		"POST /orders":                {Operation: Trade},
		"POST /orders/7/amend":        {Operation: Trade},
		"POST /orders/redeem":         {Operation: Withdraw},
		"POST /orders/":               {Operation: Trade},
		"POST /payouts":               {Operation: Withdraw},
		"POST /Payouts":               {Operation: Unknown, ExactLine: true},
		"POST /payouts/":              {Operation: Unknown, ExactLine: true},
		"POST /elsewhere":             {Operation: Unknown, ExactLine: true},
		"GET /payouts":                {Operation: Read},
		"GET /":                       {Operation: Read},
		"GET /time":                   {Operation: Public},
		"DELETE /orders":              {Operation: Unknown, ExactLine: true},
		`POST /orders {"symbol":"A"}`: {Operation: Trade}, // no fields: a role with symbols refuses it
	} {
		r := lineRequest(t, v, request)
		call, err := v.Classify(r)
		if err != nil || !reflect.DeepEqual(call.Effects, []Effect{want}) {
			t.Errorf("%s: %+v, %v", request, call, err)
		}
	}
}

// A path that differs from a line only in case or a last "/" must not be another's.
func TestCustomPathsThatLookAlike(t *testing.T) {
	spec := acme()
	spec.Operations = map[string][]string{"trade": {"POST /*"}, "withdraw": {"POST /payouts", "POST /v2/payouts/*"}, "read": {"GET /*"}}
	v := custom1(t, spec)
	for _, path := range []string{"/payouts/", "/Payouts", "/PAYOUTS/", "/v2/Payouts/7", "/V2/payouts/7/"} {
		if call, err := v.Classify(lineRequest(t, v, "POST "+path)); !errors.Is(err, fault.BadRequest) {
			t.Errorf("%s: %+v, %v", path, call, err)
		}
	}
	for path, want := range map[string]Operation{"/payouts": Withdraw, "/orders/": Trade, "/Orders": Trade, "/v2/payouts/Abc": Withdraw} {
		if call, err := v.Classify(lineRequest(t, v, "POST "+path)); err != nil || call.Effects[0].Operation != want {
			t.Errorf("%s: %+v, %v", path, call, err)
		}
	}
	spec.Operations["trade"] = append(spec.Operations["trade"], "POST /Payouts/")
	if _, problems := Custom(spec); len(problems) != 1 || !strings.Contains(problems[0].Message, "differs only in case") {
		t.Errorf("got %v", problems)
	}
}

func TestCustomTokens(t *testing.T) {
	spec := acme()
	spec.Message = "{host}\n{method}\n{path}\n{query}\n{body_sha256_hex}\n{body_sha512_hex}\n{timestamp_s}\n{timestamp_iso_ms}\n{nonce}\n{uuid}\n{api_key}\n{passphrase}"
	spec.Headers = map[string]string{"X-Sign": "{signature_base64}", "X-Nonce": "{nonce} {uuid}"}
	v := custom1(t, spec)
	d := render(t, v, "POST", "api.acme.example", "/orders?a=1", "", "b=2", testAccess, testStamp)
	want := strings.Join([]string{
		"api.acme.example", "POST", "/orders", "a=1",
		hexOf(crypto.SHA256, "b=2"), hexOf(crypto.SHA512, "b=2"),
		"1700000000", "2023-11-14T22:13:20.123Z", "1700000000123456789", "ab000000-0000-4f00-bf00-0000000000cd", "KEY", "PASS",
	}, "\n")
	if string(d.Message) != want {
		t.Errorf("message\n%s\nwant\n%s", d.Message, want)
	}
	signed := d.Finish([]byte{0xff, 0xfe})
	if got := headerOf(signed, "X-Sign"); got != "//4=" {
		t.Errorf("X-Sign: %s", got)
	}
	if got := headerOf(signed, "X-Nonce"); got != "1700000000123456789 ab000000-0000-4f00-bf00-0000000000cd" {
		t.Errorf("X-Nonce: %s", got)
	}
	if !v.Nonce() || !v.Passphrase() {
		t.Error("nonce or passphrase not seen")
	}
	r := lineRequest(t, v, "POST /orders b=2")
	if call, err := v.Classify(r); err != nil || call.Binding.Loose != "" || call.Binding.Once == "" {
		t.Errorf("binding %+v, %v", call, err)
	}
}

func hexOf(hash crypto.Hash, text string) string {
	h := hash.New()
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

func TestCustomProblems(t *testing.T) {
	tests := []struct {
		name   string
		change func(*CustomSpec)
		field  string
		want   string
	}{
		{"no hosts", func(s *CustomSpec) { s.Hosts = nil }, "hosts", "missing"},
		{"empty hosts", func(s *CustomSpec) { s.Hosts["lab"] = nil }, "hosts.lab", "empty"},
		{"URL for a host", func(s *CustomSpec) { s.Hosts["lab"] = []string{"https://a.example"} }, "hosts.lab", "no host"},
		{"no algorithm", func(s *CustomSpec) { s.Algorithm = "" }, "algorithm", "missing"},
		{"other algorithm", func(s *CustomSpec) { s.Algorithm = "md5" }, "algorithm", "md5"},
		{"no message", func(s *CustomSpec) { s.Message = "" }, "message", "empty"},
		{"method not covered", func(s *CustomSpec) { s.Message = "{path}{?query}{body}" }, "message", "method"},
		{"path not covered", func(s *CustomSpec) { s.Message = "{method}{?query}{body}" }, "message", "path"},
		{"query not covered", func(s *CustomSpec) { s.Message = "{method}{path}{body}" }, "message", "query"},
		{"body not covered", func(s *CustomSpec) { s.Message = "{method}{path}{?query}" }, "message", "body"},
		{"unknown token", func(s *CustomSpec) { s.Message += "{secret}" }, "message", "{secret}"},
		{"token of a built-in venue", func(s *CustomSpec) { s.Message += "{jwt}" }, "message", "{jwt}"},
		{"signature in the message", func(s *CustomSpec) { s.Message += "{signature_hex}" }, "message", "{signature_hex}"},
		{"open token", func(s *CustomSpec) { s.Message += "{body" }, "message", "without its }"},
		{"control character", func(s *CustomSpec) { s.Message += "\x00" }, "message", "ASCII"},
		{"long message", func(s *CustomSpec) { s.Message += strings.Repeat("x", 2000) }, "message", "limit"},
		{"no headers", func(s *CustomSpec) { s.Headers = nil }, "headers", "missing"},
		{"no signature", func(s *CustomSpec) { delete(s.Headers, "ACME-SIGN") }, "headers", "signature"},
		{"body in a header", func(s *CustomSpec) { s.Headers["X"] = "{body}" }, "headers.X", "{body}"},
		{"line break in a header", func(s *CustomSpec) { s.Headers["X"] = "a\nb" }, "headers.X", "ASCII"},
		{"name that is none", func(s *CustomSpec) { s.Headers["X Y"] = "a" }, "headers.X Y", "no name"},
		{"host header", func(s *CustomSpec) { s.Headers["Host"] = "a" }, "headers.Host", "HTTP itself"},
		{"header twice", func(s *CustomSpec) { s.Headers["acme-key"] = "a" }, "headers.acme-key", "twice"},
		{"no operations", func(s *CustomSpec) { s.Operations = nil }, "operations", "missing"},
		{"unknown operation", func(s *CustomSpec) { s.Operations["buy"] = []string{"POST /x"} }, "operations.buy", "no operation"},
		{"session", func(s *CustomSpec) { s.Operations["session"] = []string{"POST /x"} }, "operations.session", "no operation"},
		{"line without a method", func(s *CustomSpec) { s.Operations["trade"] = []string{"/x"} }, "operations.trade[0]", "POST /orders"},
		{"star in the middle", func(s *CustomSpec) { s.Operations["trade"] = []string{"POST /a", "POST /*/b"} }, "operations.trade[1]", `"*"`},
		{"star after a name", func(s *CustomSpec) { s.Operations["trade"] = []string{"POST /a*"} }, "operations.trade[0]", "whole last segment"},
		{"path not in its normal form", func(s *CustomSpec) { s.Operations["trade"] = []string{"POST /a/../b"} }, "operations.trade[0]", `".."`},
		{"line said twice", func(s *CustomSpec) { s.Operations["cancel"] = []string{"POST /orders"} }, "operations.trade[0]", "again"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			spec := acme()
			spec.Hosts, spec.Headers, spec.Operations = maps.Clone(spec.Hosts), maps.Clone(spec.Headers), maps.Clone(spec.Operations)
			test.change(&spec)
			v, problems := Custom(spec)
			if v != nil || !slices.ContainsFunc(problems, func(p Problem) bool { return p.Field == test.field && strings.Contains(p.Message, test.want) }) {
				t.Errorf("got %v, want one of %s about %q", problems, test.field, test.want)
			}
		})
	}
	if _, problems := Custom(CustomSpec{}); len(problems) < 4 {
		t.Errorf("an empty venue has %v only", problems)
	}
}
