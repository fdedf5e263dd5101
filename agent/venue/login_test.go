package venue

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

func TestLogin(t *testing.T) {
	tests := []struct {
		venue, channel, env string
		algorithm           Algorithm
		message, frame, url string
		grants              []Operation
	}{
		{
			"binance", "", "production", Ed25519, "apiKey=KEY&timestamp=1700000000123",
			`{"id":"ab000000-0000-4f00-bf00-0000000000cd","method":"session.logon","params":{"apiKey":"KEY","signature":"U0lH","timestamp":1700000000123}}`,
			"wss://ws-api.binance.com/ws-api/v3", []Operation{Read, Trade, Cancel},
		},
		{
			"okx", "business", "demo", HMACSHA256, "1700000000GET/users/self/verify",
			`{"op":"login","args":[{"apiKey":"KEY","passphrase":"PA\"SS","timestamp":"1700000000","sign":"U0lH"}]}`,
			"wss://wspap.okx.com:8443/ws/v5/business", []Operation{Read, Trade, Cancel},
		},
		{
			"bybit", "trade", "testnet", HMACSHA256, "GET/realtime1700000010123", `{"op":"auth","args":["KEY","1700000010123","534947"]}`,
			"wss://stream-testnet.bybit.com/v5/trade", []Operation{Read, Trade, Cancel},
		},
		{
			"coinbase-exchange", "user", "production", HMACSHA256, "1700000000GET/users/self/verify",
			`{"type":"subscribe","channels":["user"],"signature":"U0lH","key":"KEY","passphrase":"PA\"SS","timestamp":"1700000000"}`,
			"wss://ws-direct.exchange.coinbase.com", []Operation{Read},
		},
	}
	for _, test := range tests {
		t.Run(test.venue, func(t *testing.T) {
			v, _ := Builtin(test.venue)
			access := Access{APIKey: []byte("KEY"), Passphrase: []byte(`PA"SS`), Algorithm: test.algorithm}
			d, effect, url, err := v.Login(test.channel, access, testStamp, test.env)
			if err != nil {
				t.Fatal(err)
			}
			if string(d.Message) != test.message {
				t.Errorf("message %s", d.Message)
			}
			frame := d.FinishLogin([]byte("SIG"))
			if string(frame) != test.frame || !json.Valid(frame) {
				t.Errorf("frame %s", frame)
			}
			if url != test.url || effect.Operation != Session || !slices.Equal(effect.Grants, test.grants) {
				t.Errorf("url %s, effect %+v", url, effect)
			}
		})
	}
}

func TestLoginRefuses(t *testing.T) {
	for _, test := range []struct {
		venue, channel, env string
		algorithm           Algorithm
		want                fault.Reason
	}{
		{"binance", "", "production", HMACSHA256, fault.KeyUnsupported},
		{"binance", "", "production", RSASHA256, fault.KeyUnsupported},
		{"okx", "nowhere", "production", HMACSHA256, fault.BadRequest},
		{"okx", "", "moon", HMACSHA256, fault.BadRequest},
		{"kraken", "", "production", HMACSHA512, fault.BadRequest},
		{"tokenmetrics", "", "production", None, fault.BadRequest},
		{"coinbase-cdp", "", "sandbox", ES256, fault.BadRequest},
	} {
		v, _ := Builtin(test.venue)
		if _, _, _, err := v.Login(test.channel, Access{APIKey: []byte("KEY"), Algorithm: test.algorithm}, testStamp, test.env); !errors.Is(err, test.want) {
			t.Errorf("%s %s %s: got %v, want %s", test.venue, test.channel, test.algorithm, err, test.want)
		}
	}
}

func TestLoginMovesWithItsHost(t *testing.T) {
	v, _ := Builtin("bybit")
	moved, err := v.WithHosts(map[string][]string{"testnet": {"127.0.0.1:9443"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, url, err := moved.Login("trade", testAccess, testStamp, "testnet"); err != nil || url != "wss://127.0.0.1:9443/v5/trade" {
		t.Errorf("%s, %v", url, err)
	}
	v, _ = Builtin("coinbase-cdp") // its test networks have no WebSocket of their own
	for _, env := range []string{"testnet", "lab"} {
		moved, err := v.WithHosts(map[string][]string{env: {"127.0.0.1:9443"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, url, err := moved.Login("", Access{APIKey: []byte("KEY"), Algorithm: ES256}, testStamp, env); err != nil || url != "wss://127.0.0.1:9443" {
			t.Errorf("%s: %s, %v", env, url, err)
		}
	}
}
