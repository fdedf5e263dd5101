package mockvenue

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Rights are what an account's key may do, as the venue tells it.
type Rights struct {
	Withdraw bool
	IPs      []string  // empty: from everywhere
	Expires  time.Time // zero: never
}

// usual is what accounts have until a test says otherwise.
func usual() Rights { return Rights{IPs: []string{"192.0.2.1"}} }

// Issue makes another account of the algorithm with a key of its own, as a user
// does who rotates keys.
func (s *Server) Issue(venue, algorithm string) Credential {
	v := s.venue(venue)
	v.accounts.mu.Lock()
	defer v.accounts.mu.Unlock()
	issued, acct, err := v.issue(algorithm)
	if err != nil {
		panic(fmt.Sprintf("mockvenue: %s: %v", venue, err))
	}
	for n := 2; ; n++ {
		acct.apiKey = fmt.Sprintf("%s-%d", issued.APIKey, n)
		if v.accounts.byKey[acct.apiKey] == nil {
			break
		}
	}
	issued.APIKey = acct.apiKey
	if acct.secret != nil {
		acct.secret = []byte("FAKE-secret-of-" + acct.apiKey + "-that-opens-nothing-0123456789abcdef")
		issued.Secret = string(acct.secret)
		if v.base64Secret {
			issued.Secret = base64.StdEncoding.EncodeToString(acct.secret)
		}
	}
	v.accounts.put(acct)
	return issued
}

// Disable has a venue refuse what a key signs, as if its user had deleted it; or
// take it again.
func (s *Server) Disable(venue, apiKey string, disabled bool) {
	s.venue(venue).accounts.change(apiKey, func(a *account) { a.disabled = disabled })
}

// Grant sets what a key may do. The venue only tells it.
func (s *Server) Grant(venue, apiKey string, rights Rights) {
	s.venue(venue).accounts.change(apiKey, func(a *account) { a.rights = rights })
}

func (a *accounts) change(apiKey string, change func(*account)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	acct := a.byKey[apiKey]
	if acct == nil {
		panic("mockvenue: no account with the API key " + apiKey)
	}
	acct.mu.Lock()
	defer acct.mu.Unlock()
	change(acct)
}

// standing is whether the key is good, and its rights.
func (a *account) standing() (Rights, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rights, !a.disabled
}

// answerText writes an answer.
func answerText(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // maps of texts
	}
	return string(data)
}

// told makes an answer of the rights of the key that signed the request.
func told(write func(Rights) any) func(*request) string {
	return func(r *request) string {
		rights, _ := r.account.standing()
		return answerText(write(rights))
	}
}

type fields = map[string]any

// binanceTells: developers.binance.com/docs/wallet/account/api-key-permission.
func binanceTells(r Rights) any {
	answer := fields{
		"ipRestrict": len(r.IPs) > 0, "createTime": 1698645219000, "enableReading": true, "enableWithdrawals": r.Withdraw,
		"enableInternalTransfer": false, "enableMargin": false, "enableFutures": true, "enableSpotAndMarginTrading": true,
	}
	if !r.Expires.IsZero() {
		answer["tradingAuthorityExpirationTime"] = r.Expires.UnixMilli()
	}
	return answer
}

// bybitTells: bybit-exchange.github.io/docs/v5/user/apikey-info.
func bybitTells(r Rights) any {
	wallet, ips, ends := []string{}, r.IPs, "1970-01-01T00:00:00Z"
	if r.Withdraw {
		wallet = append(wallet, "AccountTransfer", "Withdraw")
	}
	if len(ips) == 0 {
		ips = []string{"*"}
	}
	if !r.Expires.IsZero() {
		ends = r.Expires.UTC().Format(time.RFC3339)
	}
	return fields{"retCode": 0, "retMsg": "", "retExtInfo": fields{}, "result": fields{
		"readOnly": 0, "permissions": fields{"Wallet": wallet, "Spot": []string{"SpotTrade"}}, "ips": ips, "expiredAt": ends,
	}}
}

// krakenTells: docs.kraken.com/api-reference/account-data/get-api-key-info.
func krakenTells(r Rights) any {
	permissions, until := []string{"query-funds", "modify-trades"}, "0"
	if r.Withdraw {
		permissions = append(permissions, "withdraw-funds")
	}
	if !r.Expires.IsZero() {
		until = fmt.Sprint(r.Expires.Unix())
	}
	return fields{"error": []string{}, "result": fields{
		"apiKeyName": "fake", "permissions": permissions, "validUntil": until, "ipAllowlist": append([]string{}, r.IPs...),
	}}
}

// okxTells: www.okx.com/docs-v5/en, "Get account configuration".
func okxTells(r Rights) any {
	perm := []string{"read_only", "trade"}
	if r.Withdraw {
		perm = slices.Insert(perm, 1, "withdraw")
	}
	return fields{"code": "0", "msg": "", "data": []any{fields{
		"uid": "1", "acctLv": "1", "posMode": "net_mode", "perm": strings.Join(perm, ","), "ip": strings.Join(r.IPs, ","),
	}}}
}

// coinbaseCDPTells: docs.cdp.coinbase.com, "Get API Key Permissions".
func coinbaseCDPTells(r Rights) any {
	return fields{"can_view": true, "can_trade": true, "can_transfer": r.Withdraw, "portfolio_uuid": "fake", "portfolio_type": "DEFAULT"}
}
