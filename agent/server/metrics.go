package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/internal/fault"
)

const (
	// maxMetrics is how many connections the metrics' listener has: who may connect may take all
	// of them from Prometheus, but no descriptor from the apps.
	maxMetrics = 16
	// metricsTimeout bounds one scrape in all: Prometheus waits for ten seconds.
	metricsTimeout = 15 * time.Second
)

// ListenMetrics opens where the config has the metrics, if it does. A unix socket has
// the mode and the group of the apps' sockets. On a loopback address every program of
// the host may read the metrics: the names of callers and keys, and what they do.
// With an error, all sockets are closed.
func (s *Sockets) ListenMetrics(a *agent.Agent) (err error) {
	network, address := a.MetricsAt()
	switch network {
	case "":
		return nil
	case "unix":
		s.Metrics, err = listen(address, appMode(a.SocketGID()), a.SocketGID())
	default:
		if s.Metrics, err = net.Listen(network, address); err != nil {
			err = fault.New(fault.ConfigInvalid, "metrics.listen: %s can't be opened: %v", address, err).
				WithHint("ss -ltnp shows who listens there; set another port").Because(err)
		}
	}
	if err != nil {
		s.close()
	}
	return err
}

// newMetrics makes what answers GET /metrics. Each scrape has a connection of its own,
// so that nobody holds one.
func newMetrics(handler http.Handler, log *slog.Logger) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", handler)
	var open atomic.Int32
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: firstTimeout, ReadTimeout: headTimeout, WriteTimeout: metricsTimeout, MaxHeaderBytes: maxHead,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				if open.Add(1) > maxMetrics {
					_ = c.Close() // StateClosed follows
				}
			case http.StateClosed:
				open.Add(-1)
			}
		},
	}
	server.SetKeepAlivesEnabled(false)
	return server
}

// stopMetrics lets the scrapes that go on end, or cuts them off when ctx ends.
func stopMetrics(ctx context.Context, server *http.Server) {
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
}
