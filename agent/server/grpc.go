package server

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/internal/fault"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

const (
	// maxMessage leaves room for the header fields, and for a body that is a little too long: it is refused with a reason of ours.
	maxMessage = maxBody + 2*maxHead
	// streamWindow and connWindow hold back who sends faster than we work. Being set, they also
	// switch off gRPC's bandwidth probes, which cost two frames in each round trip.
	streamWindow = 128 << 10
	connWindow   = 512 << 10
	// bufferSize keeps 1,000 idle connections small and fits a burst of some twenty requests.
	bufferSize = 8 << 10
	// unbuffered has gRPC read messages into the very memory that the codec gets and wipes.
	unbuffered = 0
	// pingAfter and pingTimeout find connections whose other end hangs.
	pingAfter   = time.Minute
	pingTimeout = 20 * time.Second
)

// newGRPC makes a gRPC server whose connections are identified by handshake.
func (s *Server) newGRPC(handshake func(*conn) error, readBuffer int) *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(handshaker(handshake)),
		grpc.ConnectionTimeout(firstTimeout),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InTapHandle(s.admit),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHead),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.ReadBufferSize(readBuffer),
		grpc.WriteBufferSize(bufferSize),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(s.aroundCall),
		grpc.ChainStreamInterceptor(s.aroundStream),
	)
}

// handshaker identifies each new connection where gRPC would do TLS.
type handshaker func(*conn) error

func (h handshaker) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(*conn)
	if !ok {
		return nil, nil, errors.New("not a connection of this server's")
	}
	if err := h(c); err != nil {
		return nil, nil, err
	}
	return c, identity{c}, nil
}

func (h handshaker) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("a server's credentials")
}

func (h handshaker) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "local"}
}

func (h handshaker) Clone() credentials.TransportCredentials { return h }

func (h handshaker) OverrideServerName(string) error { return nil }

// identity carries a connection to the calls that come over it.
type identity struct{ *conn }

func (identity) AuthType() string { return "local" }

// callerOf tells who makes a call.
func callerOf(ctx context.Context) (*caller.Caller, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if id, ok := p.AuthInfo.(identity); ok {
			return id.who, id.refusal
		}
	}
	return nil, fault.New(fault.CallerUnknown, "the connection has no process on its other end")
}

// handshakeApp lets apps in, within the limits.
func (s *Server) handshakeApp(c *conn) error {
	err := c.identify(&s.places)
	if err != nil {
		s.turnedAway("agent.sock", err)
	}
	return err
}

// handshakeAdmin lets in root and the daemon's own user, who count against no
// limit: an operator gets through when apps have taken all places.
func (s *Server) handshakeAdmin(c *conn) error {
	who, err := caller.Identify(c.UnixConn)
	if err != nil {
		return err
	}
	c.who = who
	if who.UID != 0 && int(who.UID) != os.Getuid() {
		c.refusal = fault.New(fault.CallerUnknown, "admin.sock is for root").WithHint("sudo sealsign …")
	}
	return nil
}

// admit counts a call or stream before gRPC reads any of its message, which takes
// memory. A call whose message doesn't arrive in headTimeout ends.
func (s *Server) admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	leave, err := s.takeStream(ctx)
	if err != nil {
		return nil, s.statusError(info.FullMethodName, err)
	}
	context.AfterFunc(ctx, leave)
	if info.FullMethodName == pb.Signer_SignStream_FullMethodName {
		return ctx, nil
	}
	ctx, cut := context.WithCancel(ctx)
	return context.WithValue(ctx, arrival{}, time.AfterFunc(headTimeout, cut)), nil
}

// arrival is the key of the timer that ends a call whose message doesn't arrive.
type arrival struct{}

// aroundCall gives the refusal of a call gRPC's form.
func (s *Server) aroundCall(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	defer func() { err = s.statusError(info.FullMethod, err) }()
	defer s.caught(&err)
	if timer, ok := ctx.Value(arrival{}).(*time.Timer); ok {
		timer.Stop()
	}
	return handler(ctx, request)
}

// aroundStream does the same for a stream.
func (s *Server) aroundStream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() { err = s.statusError(info.FullMethod, err) }()
	return handler(server, readableStream{stream})
}

func (s *Server) takeStream(ctx context.Context) (leave func(), _ error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	return s.places.stream(who.UID)
}

// statusError gives a refusal gRPC's form. What is none, and didn't come from
// gRPC, is a defect and goes to the log.
func (s *Server) statusError(method string, err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if _, ok := errors.AsType[*fault.Error](err); !ok {
		s.log.Error("a call failed", "method", method, "error", err)
	}
	return statusOf(err)
}
