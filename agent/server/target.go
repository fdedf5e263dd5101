package server

import (
	"strings"

	"github.com/sealsign/sealsign/internal/fault"
)

// aim is what a request on http.sock is for.
type aim struct {
	key    string // as the caller names it; empty: the only one it may use there
	host   string
	target string // the venue's own: path and query
}

// aimOf reads where a request goes. There are three ways to say it:
//
//	GET /api/v3/account         with Host: api.binance.com
//	GET http://api.binance.com/api/v3/account   with the same Host
//	GET /KEY/api.binance.com/api/v3/account     or /KEY/https://api.binance.com/…, with another Host
//
// known tells whether a host is one of a configured key's. Such a Host is always
// meant, so that no path of a venue can be taken for the third way.
func aimOf(h *head, known func(host string) bool) (aim, error) {
	key, err := keyField(h)
	if err != nil {
		return aim{}, err
	}
	if !strings.HasPrefix(h.target, "/") {
		return absoluteForm(h, key)
	}
	if !known(strings.TrimSuffix(strings.ToLower(h.host), ":443")) {
		if byPath, ok, err := pathForm(h.target); ok || err != nil {
			if key != "" && key != byPath.key {
				err = malformed("the path and the header field Sealsign-Key name different keys")
			}
			return byPath, err
		}
	}
	return aim{key, h.host, h.target}, nil
}

// keyField gives the key that the header names.
func keyField(h *head) (string, error) {
	for _, field := range h.fields {
		if !strings.EqualFold(field.Name, "Sealsign-Key") {
			continue
		}
		if len(field.Value) == 0 {
			return "", fault.New(fault.BadRequest, "the header field Sealsign-Key is empty").
				WithHint("name a key, or leave the field out where you have one key for the host only")
		}
		return string(field.Value), nil
	}
	return "", nil
}

// absoluteForm reads what a client sends that takes the socket for a proxy.
func absoluteForm(h *head, key string) (aim, error) {
	rest, ok := strings.CutPrefix(h.target, "http://")
	if !ok {
		rest, ok = strings.CutPrefix(h.target, "https://")
	}
	if !ok {
		return aim{}, malformed("the request's target is neither a path nor an http URL")
	}
	host, target := splitHost(rest)
	if !strings.EqualFold(host, h.host) {
		return aim{}, malformed("the request's target and the header field Host name different hosts")
	}
	return aim{key, host, target}, nil
}

// pathForm reads /KEY/HOST/path and /KEY/https://HOST/path; ok says whether the
// target is one. A second part without a dot or a port is no host.
func pathForm(path string) (_ aim, ok bool, _ error) {
	key, rest, ok := strings.Cut(path[1:], "/")
	if !ok || key == "" {
		return aim{}, false, nil
	}
	if strings.HasPrefix(rest, "http://") {
		return aim{}, false, fault.New(fault.BadRequest, "the URL in the path is http").WithHint("write /KEY/https://HOST/path")
	}
	rest, isURL := strings.CutPrefix(rest, "https://")
	host, target := splitHost(rest)
	if !isHost(host) || !isURL && !strings.ContainsAny(host, ".:") {
		return aim{}, false, nil
	}
	return aim{key, host, target}, true, nil
}

// splitHost parts HOST/path?query. A URL without a path means the path "/".
func splitHost(s string) (host, target string) {
	i := strings.IndexAny(s, "/?")
	if i < 0 {
		return s, "/"
	}
	if s[i] == '?' {
		return s[:i], "/" + s[i:]
	}
	return s[:i], s[i:]
}
