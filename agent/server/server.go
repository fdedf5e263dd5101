// Package server is the agent's sockets. agent.sock and admin.sock speak gRPC
// (proto/sealsign/v1), http.sock speaks HTTP/1.1, and where the config has it there is
// a listener for Prometheus. Each connection is identified
// once, each request is read strictly and goes to agent.Agent, and each refusal
// takes the form of its protocol here. What may be done is decided elsewhere.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/internal/fault"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// Server serves one agent.
type Server struct {
	agent   *agent.Agent
	log     *slog.Logger
	places  places
	warned  atomic.Int64 // when a connection was last said to be turned away, in Unix seconds
	workers workers

	apps    *grpc.Server
	admins  *grpc.Server
	http    *forwarder
	metrics *http.Server

	stopping  context.Context // ended: take nothing new
	beginStop context.CancelFunc
	accepted  chan struct{}  // closed: nothing more is accepted
	arriving  sync.WaitGroup // connections that are accepted, and that who stops them doesn't know yet
	draining  chan struct{}  // closed: there are none, and all are about to end
}

// New makes a server that is to be given sockets.
func New(a *agent.Agent, log *slog.Logger) *Server {
	s := &Server{agent: a, log: log, accepted: make(chan struct{}), draining: make(chan struct{}), workers: workers{next: make(chan job)}}
	s.stopping, s.beginStop = context.WithCancel(context.Background())
	s.apps = s.newGRPC(s.handshakeApp, bufferSize)
	s.apps.RegisterService(s.readable(pb.Signer_ServiceDesc), &signer{Server: s})
	s.admins = s.newGRPC(s.handshakeAdmin, unbuffered)
	s.admins.RegisterService(s.readable(pb.Admin_ServiceDesc), &admin{Server: s})
	s.http = &forwarder{Server: s, conns: make(map[*httpConn]struct{})}
	s.metrics = newMetrics(a.Metrics(), log)
	a.Metrics().Sockets(s.places.inUse)
	return s
}

// Serve serves the sockets, which it closes, until Stop is called or one of
// them fails. It is called once.
func (s *Server) Serve(sockets *Sockets) error {
	defer close(s.accepted)
	serve := map[net.Listener]func(net.Listener) error{}
	if sockets.Agent != nil {
		serve[listener{sockets.Agent, s}] = s.apps.Serve
	}
	if sockets.HTTP != nil {
		serve[listener{sockets.HTTP, s}] = s.http.serve
	}
	if sockets.Admin != nil {
		serve[listener{sockets.Admin, s}] = s.admins.Serve
	}
	if sockets.Metrics != nil {
		serve[sockets.Metrics] = s.metrics.Serve
	}
	ended := make(chan error, len(serve))
	for l, run := range serve {
		go func() { ended <- run(l) }()
	}
	closed := make(chan struct{})
	go func() {
		<-s.stopping.Done()
		sockets.close()
		close(closed)
	}()
	var first error
	for range serve {
		if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) && !s.isStopping() && first == nil {
			first = err
			s.beginStop()
		}
	}
	s.beginStop()
	<-closed // an accept loop ends a moment before its socket is closed
	return first
}

// Stop ends Serve: it accepts no more connections, and returns when the requests of
// those that were accepted are answered, or cuts them off when ctx ends. A client
// knows of each request whether it was taken: gRPC tells which is the last
// (GOAWAY), and to http.sock it can't be written.
func (s *Server) Stop(ctx context.Context) {
	s.beginStop()
	<-s.accepted
	s.arriving.Wait()
	close(s.draining)
	var all sync.WaitGroup
	all.Go(func() { stopGRPC(ctx, s.apps) })
	all.Go(func() { stopGRPC(ctx, s.admins) })
	all.Go(func() { s.http.stop(ctx) })
	all.Go(func() { stopMetrics(ctx, s.metrics) })
	all.Wait()
}

func stopGRPC(ctx context.Context, server *grpc.Server) {
	done := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		server.Stop()
	}
}

func (s *Server) isStopping() bool { return s.stopping.Err() != nil }

// turnedAway says in the log that there is no place for a connection, at most once a second.
func (s *Server) turnedAway(socket string, why error) {
	if now := time.Now().Unix(); s.warned.Swap(now) != now {
		s.log.Warn("connections are turned away", "socket", socket, "reason", why)
	}
}

// caught, deferred, makes a defect that a request meets the refusal of that
// request: it costs no other its answer.
func (s *Server) caught(err *error) {
	if defect := recover(); defect != nil {
		s.log.Error("a request met a defect", "defect", defect, "stack", string(debug.Stack()))
		*err = fault.From(fmt.Errorf("%v", defect))
	}
}

// refuse has a request recorded that could not be read, and gives the refusal back.
func (s *Server) refuse(who *caller.Caller, ask *agent.Ask, refusal error) error {
	if who == nil {
		return refusal
	}
	return s.agent.Refuse(who, ask, refusal)
}
