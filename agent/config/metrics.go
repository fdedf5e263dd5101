package config

import (
	"net/netip"
	"path/filepath"
	"strings"
)

// maxSocketPath is how long the path of a unix socket may be: sockaddr_un has room for 108 bytes, the last of them 0.
const maxSocketPath = 107

// metrics reads where the metrics are served. Whoever connects may read the names of
// callers and keys, and what they do, so that it is nowhere but on this host.
func (l *loader) metrics(s *section) {
	listen, at := s.text("listen", "")
	if _, given := s.members["listen"]; given {
		l.config.Metrics = l.metricsAt(listen, at)
	}
	s.done("a setting of the metrics")
}

func (l *loader) metricsAt(listen string, at place) (m Metrics) {
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		switch {
		case !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" || strings.ContainsRune(path, 0):
			l.problem(at, "is %s; an absolute path is wanted after unix:, without . and .. and a last /", clip(listen))
		case len(path) > maxSocketPath:
			l.problem(at, "has a path of %d bytes; that of a socket has at most %d", len(path), maxSocketPath)
		case filepath.Dir(path) == l.config.Agent.RuntimeDir && ownSockets[filepath.Base(path)]:
			l.problem(at, "is %s, which is another socket of the daemon", clip(listen))
		default:
			return Metrics{"unix", path}
		}
		return m
	}
	address, err := netip.ParseAddrPort(listen)
	if err != nil || !address.Addr().IsLoopback() || address.Port() == 0 {
		l.problem(at, `is %s; it can be "unix:/path" or a loopback address such as "127.0.0.1:9464", since the metrics name callers and keys`, clip(listen))
		return m
	}
	return Metrics{"tcp", address.String()}
}

// ownSockets are the names that the daemon has for sockets in its runtime folder.
var ownSockets = map[string]bool{"agent.sock": true, "http.sock": true, "approve.sock": true, "admin.sock": true}
