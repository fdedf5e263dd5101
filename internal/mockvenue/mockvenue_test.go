package mockvenue

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T) *Server {
	t.Helper()
	s, err := Start(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// send makes one request with header lines "Name: value".
func send(t *testing.T, s *Server, method, url, body string, lines ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

func TestBinance(t *testing.T) {
	s := start(t)
	c := s.Credential("binance", "hmac-sha256")
	base := "https://" + s.Host("binance")
	key := "X-MBX-APIKEY: " + c.APIKey
	now := time.Now().UnixMilli()
	signed := func(query string) string {
		return query + "&signature=" + hex.EncodeToString(mac(sha256.New, []byte(c.Secret), query))
	}
	order := fmt.Sprintf("symbol=BTCUSDT&newClientOrderId=a1&timestamp=%d", now)
	tests := []struct {
		name, method, target string
		header               []string
		want                 string
		status               int
	}{
		{"public", "GET", "/api/v3/time", nil, "serverTime", 200},
		{"public with a credential", "GET", "/api/v3/time", []string{key}, "carries a credential", 400},
		{"signed", "GET", "/api/v3/account?" + signed(fmt.Sprintf("timestamp=%d", now)), []string{key}, "balances", 200},
		{"tampered", "GET", "/api/v3/account?a=1&" + signed(fmt.Sprintf("timestamp=%d", now)), []string{key}, "-1022", 400},
		{"unsigned", "GET", "/api/v3/account", []string{key}, "-1102", 400},
		{"another key", "GET", "/api/v3/account?" + signed(fmt.Sprintf("timestamp=%d", now)), []string{"X-MBX-APIKEY: x"}, "-2015", 401},
		{"late", "GET", "/api/v3/account?" + signed(fmt.Sprintf("timestamp=%d", now-6000)), []string{key}, "-1021", 400},
		{"early", "GET", "/api/v3/account?" + signed(fmt.Sprintf("timestamp=%d", now+9000)), []string{key}, "-1021", 400},
		{"order", "POST", "/api/v3/order?" + signed(order), []string{key}, `"orderId":1`, 200},
		{"the same order", "POST", "/api/v3/order?" + signed(order), []string{key}, "-2010", 400},
		{"leaked header", "GET", "/api/v3/time", []string{"Sealsign-Key: x"}, "Sealsign-Key came through", 400},
		{"unknown", "GET", "/api/v3/nonesuch?" + signed(fmt.Sprintf("timestamp=%d", now)), []string{key}, "-1000", 404},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			answer, text := send(t, s, test.method, base+test.target, "", test.header...)
			if answer.StatusCode != test.status || !strings.Contains(text, test.want) {
				t.Errorf("%d %s, want %d with %s", answer.StatusCode, text, test.status, test.want)
			}
		})
	}
	state := s.Seen("binance")
	if state.Accepted[Order] != 1 || state.Accepted[Read] != 1 || state.Refused != 9 || len(state.Problems) != 9 {
		t.Errorf("seen %+v", state)
	}
	if last := s.Arrivals("binance"); len(last) != len(tests) || last[0].Path != "/api/v3/time" {
		t.Errorf("%d arrivals", len(last))
	}
}

func TestNoncesRise(t *testing.T) {
	a := new(account)
	for _, step := range []struct {
		nonce uint64
		want  bool
	}{{5, true}, {5, false}, {4, false}, {6, true}} {
		if got := a.rising(step.nonce); got != step.want {
			t.Errorf("nonce %d: %v", step.nonce, got)
		}
	}
}

func TestMisbehaviour(t *testing.T) {
	s := start(t)
	s.Behave("binance", "/api/v3/time", Behaviour{Chunks: 2, Break: true})
	answer, err := s.Client().Get("https://" + s.Host("binance") + "/api/v3/time")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil || errors.Is(err, io.EOF) || !bytes.HasPrefix(body, []byte("0123")) {
		t.Errorf("%d bytes, %v; want a broken body", len(body), err)
	}
	s.Behave("binance", "/api/v3/time", Behaviour{Redirect: "https://example.com/"})
	answer, _ = send(t, s, "GET", "https://"+s.Host("binance")+"/api/v3/time", "")
	if answer.StatusCode != http.StatusFound {
		t.Errorf("status %d, want a redirect", answer.StatusCode)
	}
	s.Behave("binance", "/api/v3/time", Behaviour{})
	if answer, _ = send(t, s, "GET", "https://"+s.Host("binance")+"/api/v3/time", ""); answer.StatusCode != http.StatusOK {
		t.Errorf("status %d after the behaviour was taken back", answer.StatusCode)
	}
}

func TestOnlyTheOwnAuthorityIsTrusted(t *testing.T) {
	s, other := start(t), start(t)
	if _, err := other.Client().Get("https://" + s.Host("okx") + "/api/v5/public/time"); err == nil {
		t.Error("a client of another authority connected")
	}
}
