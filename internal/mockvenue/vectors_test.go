package mockvenue

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// A secret of 64 bytes, 0 to 63, in base64, and one in plain text.
const (
	secretBase64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw=="
	secretText   = "FAKE-secret-for-tests-only-0123456789abcdef"
)

// The keys of RFC 6979 A.2.5 and of RFC 8032, test 1.
const (
	p256PEM = "-----BEGIN EC PRIVATE KEY-----\n" +
		"MHcCAQEEIMmvqdhFunUWa1whV2ex1pNOUMPbNuibEnuKYisSD2choAoGCCqGSM49\n" +
		"AwEHoUQDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Z5A/4QCLi8\n" +
		"maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==\n-----END EC PRIVATE KEY-----\n"
	ed25519Private = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg=="
)

// Tokens that ccxt signed with them.
const (
	tokenES256 = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Im9yZ2FuaXphdGlvbnMvMDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwL2FwaUtleXMvMDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAxIiwibm9uY2UiOiIwMDExMjIzMzQ0NTU2Njc3ODg5OWFhYmJjY2RkZWVmZiJ9" +
		".eyJhdWQiOlsicmV0YWlsX3Jlc3RfYXBpX3Byb3h5Il0sImlzcyI6ImNvaW5iYXNlLWNsb3VkIiwibmJmIjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwMDAxMjAsInN1YiI6Im9yZ2FuaXphdGlvbnMvMDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwL2FwaUtleXMvMDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAxIiwiaWF0IjoxNzAwMDAwMDAwLCJ1cmkiOiJHRVQgYXBpLmNvaW5iYXNlLmNvbS9hcGkvdjMvYnJva2VyYWdlL2FjY291bnRzIn0" +
		".8BPT4G2mW7JdT6NRVvaVfbePRUYgPOYqvvBaydHc3TMo0XPj9soS2NTOlUtRj2STHonSX51ydGJvtZxzezI1Iw"
	tokenEdDSA = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6IjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMSIsIm5vbmNlIjoiMDAxMTIyMzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmYifQ" +
		".eyJhdWQiOlsiY2RwX3NlcnZpY2UiXSwiaXNzIjoiY2RwIiwibmJmIjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwMDAxMjAsInN1YiI6IjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMSIsImlhdCI6MTcwMDAwMDAwMCwidXJpcyI6WyJHRVQgYXBpLmNvaW5iYXNlLmNvbS9hcGkvdjMvYnJva2VyYWdlL2FjY291bnRzIl19" +
		".L9ASTb89cFz1JhTXgDb157AZrTV9j3yBWFRYrqwvx-OTsfCnwCqZhrnAMrgyUb1idPMvc8o32JggQihmnEv5CA"
)

// accepted says whether the signature at least fits: the tokens and nonces of these vectors were used.
func accepted(r *refusal) bool { return r == nil || r.cause == badNonce || r.cause == badTime }

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// What the venues themselves publish (binance, kraken's form) and what ccxt
// signs (the others), so that what this server accepts is anchored outside of
// this repository.
func TestVectors(t *testing.T) {
	block, _ := pem.Decode([]byte(p256PEM))
	p256, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	const keyES256 = "organizations/00000000-0000-0000-0000-000000000000/apiKeys/00000000-0000-0000-0000-000000000001"
	const keyEdDSA = "00000000-0000-0000-0000-000000000001"
	const at = 1700000000123
	tests := []struct {
		name    string
		verify  func(*request, *account) *refusal
		account *account
		now     int64
		method  string
		target  string
		body    string
		header  http.Header
		open    []string // what the venue's signature doesn't cover
	}{
		{
			name: "binance: rest-api.md, SIGNED Endpoint Examples", verify: verifyBinance, now: 1499827319559, method: "POST",
			account: &account{secret: []byte("NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j")},
			target:  "/api/v3/order?symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559&signature=c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71",
			open:    []string{"another path"},
		},
		{
			name: "binance: a futures order", verify: verifyBinance, now: at, method: "POST",
			account: &account{secret: []byte(secretText)}, target: "/fapi/v1/order",
			body:   "timestamp=1700000000123&symbol=BTCUSDT&side=SELL&type=MARKET&quantity=0.01&newClientOrderId=cid-1&recvWindow=10000&signature=5b7cc3e5e3b3f4905141ee3931a713c0639f09b47d042a187d7938c560e5e4bd",
			header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
			open:   []string{"another path"},
		},
		{
			name: "kraken: guides/spot-rest-auth", verify: verifyKraken, now: 1616492376594, method: "POST",
			account: &account{secret: unbase64(t, "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==")},
			target:  "/0/private/AddOrder",
			body:    "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25",
			header:  http.Header{"Api-Sign": {"4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="}},
		},
		{
			name: "kraken: JSON", verify: verifyKraken, now: at, method: "POST",
			account: &account{secret: unbase64(t, secretBase64)}, target: "/0/private/CancelOrderBatch",
			body: `{"nonce":"1700000000123","orders":["OABC","ODEF"]}`,
			header: http.Header{
				"Content-Type": {"application/json"},
				"Api-Sign":     {"KbCtRHMlo2zhcwkrRVk0NGIQKIX1IKTGS1L1k0tDGCg6ruvnq7JxyxbAoliufYB+9hB3UP1E5jw/hoOCF/7UBQ=="},
			},
		},
		{
			name: "coinbase-exchange", verify: verifyCoinbaseExchange, now: at, method: "GET",
			account: &account{secret: unbase64(t, secretBase64), passphrase: "FAKE-passphrase"}, target: "/orders?status=open&limit=10",
			header: http.Header{
				"Cb-Access-Sign":       {"/lqiYB4t8RrBk3NwLeVFSlgJ3+z+XkS9ZR9ySW9h+Ag="},
				"Cb-Access-Timestamp":  {"1700000000"},
				"Cb-Access-Passphrase": {"FAKE-passphrase"},
			},
		},
		{
			name: "coinbase-cdp: ES256", verify: verifyCDP, now: at, method: "GET",
			account: &account{apiKey: keyES256, public: p256.Public()}, target: "/api/v3/brokerage/accounts?limit=250",
			header: http.Header{"Authorization": {"Bearer " + tokenES256}}, open: []string{"another query", "another body"},
		},
		{
			name: "coinbase-cdp: EdDSA", verify: verifyCDP, now: at, method: "GET",
			account: &account{apiKey: keyEdDSA, public: ed25519.PrivateKey(unbase64(t, ed25519Private)).Public()}, target: "/api/v3/brokerage/accounts?limit=250",
			header: http.Header{"Authorization": {"Bearer " + tokenEdDSA}}, open: []string{"another query", "another body"},
		},
		{
			name: "okx", verify: verifyOKX, now: at, method: "GET",
			account: &account{secret: []byte(secretText), passphrase: "FAKE-passphrase"}, target: "/api/v5/account/balance?ccy=BTC%2CETH",
			header: http.Header{
				"Ok-Access-Sign":       {"5I+Sf/rXvvzV2WeTvcliEJoyvg4dJGUlBECLNBXoMSc="},
				"Ok-Access-Timestamp":  {"2023-11-14T22:13:20.123Z"},
				"Ok-Access-Passphrase": {"FAKE-passphrase"},
			},
		},
		{
			name: "bybit", verify: verifyBybit, now: at, method: "GET",
			account: &account{apiKey: "FAKE-api-key-0001", secret: []byte(secretText)}, target: "/v5/order/realtime?category=linear&symbol=BTCUSDT",
			header: http.Header{
				"X-Bapi-Sign":        {"f23dfdf95aca96f53094c1431d0cdbc4d91c49844951c883038d59d0800c2fe2"},
				"X-Bapi-Timestamp":   {"1700000000123"},
				"X-Bapi-Recv-Window": {"5000"},
			},
			open: []string{"another path", "another body"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			arrived := func(target, body string, now int64) *request {
				r := &request{Request: httptest.NewRequest(test.method, target, nil), body: []byte(body), now: time.UnixMilli(now)}
				r.Host = "api.coinbase.com"
				if test.header != nil {
					r.Header = test.header
				}
				return r
			}
			if refusal := test.verify(arrived(test.target, test.body, test.now), test.account); refusal != nil {
				t.Errorf("refused: %s", refusal.text)
			}
			path, query, _ := strings.Cut(test.target, "?")
			for name, changed := range map[string]*request{
				"another path":  arrived(path+"x?"+query, test.body, test.now),
				"another query": arrived(path+"?x=1&"+query, test.body, test.now),
				"another body":  arrived(test.target, test.body+" ", test.now),
			} {
				if !slices.Contains(test.open, name) && accepted(test.verify(changed, test.account)) {
					t.Errorf("accepted with %s", name)
				}
			}
		})
	}
}
