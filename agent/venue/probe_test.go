package venue

import (
	"strings"
	"testing"
	"time"
)

// What tries a credential only reads, wherever it goes.
func TestProbesOnlyRead(t *testing.T) {
	without := map[string]bool{"tokenmetrics": true}
	for _, name := range Names() {
		v, _ := Builtin(name)
		for _, env := range v.Environments() {
			r, ok := v.Probe(env)
			if ok == without[name] {
				t.Errorf("%s has a probe in %s: %v", name, env, ok)
			}
			if !ok {
				continue
			}
			call, err := v.Classify(&r)
			if err != nil || len(call.Effects) != 1 || call.Effects[0].Operation != Read {
				t.Errorf("the probe of %s in %s, %s %s, is %+v, %v", name, env, r.Method, r.Path, call, err)
			}
		}
		for _, p := range v.probes {
			method, path, _ := strings.Cut(p.line, " ")
			if row, err := v.row(method, path); err != nil || row == nil || row.op != Read {
				t.Errorf("the probe %s of %s has no row that reads", p.line, name)
			}
		}
	}
}

// The hosts decide which probe it is.
func TestTheProbeIsOneThatTheHostServes(t *testing.T) {
	v, _ := Builtin("binance")
	for env, want := range map[string]string{
		"production": "api.binance.com/sapi/v1/account/apiRestrictions",
		"testnet":    "testnet.binance.vision/api/v3/account",
	} {
		if r, ok := v.Probe(env); !ok || r.Host+r.Path != want {
			t.Errorf("in %s it is %s%s", env, r.Host, r.Path)
		}
	}
	if v.TellsRights("testnet") || !v.TellsRights("production") {
		t.Error("whether the rights are told doesn't follow")
	}
	if _, ok := v.Probe("nowhere"); ok {
		t.Error("there is a probe for an environment without hosts")
	}
}

func TestJudge(t *testing.T) {
	for name, test := range map[string]struct {
		venue   string
		status  int
		body    string
		verdict Verdict
		code    string
	}{
		"binance, good":                      {"binance", 200, `{"ipRestrict":true,"enableWithdrawals":false}`, Accepted, ""},
		"binance, a bad key":                 {"binance", 401, `{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}`, Refused, "-2015"},
		"binance, a bad signature":           {"binance", 400, `{"code":-1022,"msg":"Signature for this request is not valid."}`, Refused, "-1022"},
		"binance, the clock":                 {"binance", 400, `{"code":-1021,"msg":"Timestamp"}`, Unclear, ""},
		"binance, its firewall":              {"binance", 403, `<html>`, Unclear, ""},
		"binance, a ban":                     {"binance", 418, `{"code":-1003}`, Unclear, ""},
		"binance, busy":                      {"binance", 429, `{"code":-1003}`, Unclear, ""},
		"binance, down":                      {"binance", 503, ``, Unclear, ""},
		"binance, a status alone":            {"binance", 401, `no JSON`, Refused, ""},
		"kraken, good":                       {"kraken", 200, `{"error":[],"result":{"permissions":[]}}`, Accepted, ""},
		"kraken, a bad key":                  {"kraken", 200, `{"error":["EAPI:Invalid key"]}`, Refused, "EAPI:Invalid key"},
		"kraken, a nonce":                    {"kraken", 200, `{"error":["EAPI:Invalid nonce"]}`, Unclear, ""},
		"kraken, down":                       {"kraken", 200, `{"error":["EService:Unavailable"]}`, Unclear, ""},
		"bybit, good":                        {"bybit", 200, `{"retCode":0,"result":{}}`, Accepted, ""},
		"bybit, a bad key":                   {"bybit", 200, `{"retCode":10003}`, Refused, "10003"},
		"bybit, another address":             {"bybit", 200, `{"retCode":10010}`, Refused, "10010"},
		"bybit, busy":                        {"bybit", 200, `{"retCode":10006}`, Unclear, ""},
		"okx, good":                          {"okx", 200, `{"code":"0","data":[{"perm":"read_only","ip":""}]}`, Accepted, ""},
		"okx, a bad key":                     {"okx", 401, `{"code":"50111"}`, Refused, "50111"},
		"okx, the clock":                     {"okx", 401, `{"code":"50102"}`, Unclear, ""},
		"coinbase-exchange, good":            {"coinbase-exchange", 200, `[]`, Accepted, ""},
		"coinbase-exchange, a bad key":       {"coinbase-exchange", 401, `{"message":"invalid signature"}`, Refused, ""},
		"coinbase-cdp, good":                 {"coinbase-cdp", 200, `{"can_transfer":true}`, Accepted, ""},
		"coinbase-cdp, without the right":    {"coinbase-cdp", 403, `{"error":"PERMISSION_DENIED"}`, Refused, ""},
		"coinbase-cdp, something unheard of": {"coinbase-cdp", 404, `{}`, Unclear, ""},
		"cut short":                          {"okx", 200, `{"code":"0"`, Unclear, ""},
	} {
		v, _ := Builtin(test.venue)
		r, _ := v.Probe("production")
		if verdict, code, _ := v.Judge(&r, test.status, []byte(test.body)); verdict != test.verdict || code != test.code {
			t.Errorf("%s: %v %q", name, verdict, code)
		}
	}
}

func TestRights(t *testing.T) {
	end := time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		venue, body      string
		withdraw, ipList string
		expires          time.Time
	}{
		"binance":               {"binance", `{"ipRestrict":false,"enableWithdrawals":true,"tradingAuthorityExpirationTime":1801440000000}`, "yes", "no", end},
		"binance, without end":  {"binance", `{"ipRestrict":true,"enableWithdrawals":false}`, "no", "yes", time.Time{}},
		"binance, untold":       {"binance", `{}`, "", "", time.Time{}},
		"bybit":                 {"bybit", `{"retCode":0,"result":{"permissions":{"Wallet":["AccountTransfer","Withdraw"]},"ips":["*"],"expiredAt":"2027-02-01T00:00:00Z"}}`, "yes", "no", end},
		"bybit, with addresses": {"bybit", `{"retCode":0,"result":{"permissions":{"Wallet":[]},"ips":["192.0.2.1"],"expiredAt":"1970-01-01T00:00:00Z"}}`, "no", "yes", time.Time{}},
		"kraken":                {"kraken", `{"error":[],"result":{"permissions":["query-funds","withdraw-funds"],"validUntil":"1801440000","ipAllowlist":[]}}`, "yes", "no", end},
		"kraken, without end":   {"kraken", `{"error":[],"result":{"permissions":["query-funds"],"validUntil":"0","ipAllowlist":["192.0.2.1"]}}`, "no", "yes", time.Time{}},
		"okx":                   {"okx", `{"code":"0","data":[{"perm":"read_only,withdraw,trade","ip":""}]}`, "yes", "no", time.Time{}},
		"okx, with addresses":   {"okx", `{"code":"0","data":[{"perm":"read_only","ip":"192.0.2.1,192.0.2.2"}]}`, "no", "yes", time.Time{}},
		"okx, untold":           {"okx", `{"code":"0","data":[]}`, "", "", time.Time{}},
		"coinbase-cdp":          {"coinbase-cdp", `{"can_view":true,"can_transfer":true}`, "yes", "", time.Time{}},
	} {
		v, _ := Builtin(test.venue)
		r, _ := v.Probe("production")
		_, _, rights := v.Judge(&r, 200, []byte(test.body))
		if rights == nil || word(rights.Withdraw) != test.withdraw || word(rights.IPList) != test.ipList || !rights.Expires.Equal(test.expires) {
			t.Errorf("%s: %+v", name, rights)
		}
	}
	v, _ := Builtin("coinbase-exchange")
	r, _ := v.Probe("production")
	if _, _, rights := v.Judge(&r, 200, []byte(`[]`)); rights != nil {
		t.Errorf("of coinbase-exchange: %+v", rights)
	}
}

func word(answer *bool) string {
	switch {
	case answer == nil:
		return ""
	case *answer:
		return "yes"
	}
	return "no"
}
