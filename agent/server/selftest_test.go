package server_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent/server"
	"github.com/sealsign/sealsign/agent/server/servertest"
)

// Each socket answers the daemon itself, and the log has nothing of it.
func TestSelfTest(t *testing.T) {
	h := servertest.Start(t, servertest.Settings{})
	before := h.Agent.Status().Audit.Records
	for range 3 {
		if err := h.Server.SelfTest(t.Context(), h.Sockets); err != nil {
			t.Error(err)
		}
	}
	if after := h.Agent.Status().Audit.Records; after != before {
		t.Errorf("%d records come of it", after-before)
	}
}

// A socket that takes no connection is named.
func TestSelfTestOfAHang(t *testing.T) {
	h := servertest.Start(t, servertest.Settings{})
	for name, hang := range map[string]func(*server.Sockets){
		"agent.sock": func(s *server.Sockets) { s.Agent = unattend(s.Agent) },
		"admin.sock": func(s *server.Sockets) { s.Admin = unattend(s.Admin) },
		"http.sock":  func(s *server.Sockets) { s.HTTP = unattend(s.HTTP) },
	} {
		h.Stop(t)
		h.ServeOn(t, hang)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := h.Server.SelfTest(ctx, h.Sockets); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s hangs: %v", name, err)
		}
		cancel()
	}
}

// A socket whose queue is full, since nobody has accepted for long, hangs too.
func TestSelfTestOfAFullQueue(t *testing.T) {
	h := servertest.Start(t, servertest.Settings{})
	h.Stop(t)
	h.ServeOn(t, func(s *server.Sockets) {
		s.Agent, s.Admin, s.HTTP = unattend(s.Agent), unattend(s.Admin), unattend(s.HTTP)
	})
	for _, l := range []net.Listener{h.Sockets.Agent, h.Sockets.Admin, h.Sockets.HTTP} {
		for full := false; !full; {
			conn, err := net.Dial("unix", l.Addr().String())
			if full = errors.Is(err, syscall.EAGAIN); !full && err != nil {
				t.Fatal(err)
			} else if !full {
				defer conn.Close()
			}
		}
		alone := new(server.Sockets)
		switch l {
		case h.Sockets.Agent:
			alone.Agent = l
		case h.Sockets.Admin:
			alone.Admin = l
		default:
			alone.HTTP = l
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := h.Server.SelfTest(ctx, alone); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
			t.Errorf("%s: %v", l.Addr(), err)
		}
		cancel()
	}
}

// A deadline that the dial sees before the context says that it has passed is no refusal.
func TestSelfTestAtItsDeadline(t *testing.T) {
	h := servertest.Start(t, servertest.Settings{})
	err := h.Server.SelfTest(overdue{t.Context()}, &server.Sockets{HTTP: h.Sockets.HTTP})
	if err == nil || !strings.Contains(err.Error(), h.Sockets.HTTP.Addr().String()) {
		t.Error(err)
	}
}

// overdue is a context in the instant between its deadline and the timer that ends it.
type overdue struct{ context.Context }

func (overdue) Deadline() (time.Time, bool) { return time.Unix(1, 0), true }

// unattended is a socket whose connections nobody accepts.
type unattended struct {
	net.Listener
	ctx  context.Context
	stop context.CancelFunc
}

func unattend(l net.Listener) *unattended {
	ctx, stop := context.WithCancel(context.Background())
	return &unattended{l, ctx, stop}
}

func (d *unattended) Accept() (net.Conn, error) {
	<-d.ctx.Done()
	return nil, net.ErrClosed
}

func (d *unattended) Close() error {
	d.stop()
	return d.Listener.Close()
}
