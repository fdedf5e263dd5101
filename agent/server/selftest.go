package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// queueRetry is how soon a full queue is tried again.
const queueRetry = 50 * time.Millisecond

// SelfTest connects to each of the sockets that are served as a client does and waits for an answer: the
// connection is accepted and identified, and on the gRPC sockets a call is answered.
// Then it takes the locks that requests take. The error names what gave no answer
// before ctx ended. A refusal is an answer, whatever its reason, and so is a connection
// that is turned away: a daemon whose TPM, disk or places are gone doesn't hang.
//
// None of it is in the audit log, which records requests for signatures and
// administrative acts: these calls list keys and a public key, and http.sock is asked
// for nothing. The daemon's own user is let in to admin.sock, and is no caller.
func (s *Server) SelfTest(ctx context.Context, sockets *Sockets) error {
	if err := call(ctx, sockets.Agent, pb.Signer_ListKeys_FullMethodName, new(pb.ListKeysRequest), new(pb.ListKeysResponse)); err != nil {
		return err
	}
	if err := call(ctx, sockets.Admin, pb.Admin_AuditPublicKey_FullMethodName, new(pb.AuditPublicKeyRequest), new(pb.AuditPublicKeyResponse)); err != nil {
		return err
	}
	if err := hangsUp(ctx, sockets.HTTP); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		s.agent.SelfTest()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a lock that requests take is not free: %w", ctx.Err())
	}
}

// call makes one gRPC call over a connection of its own.
func call(ctx context.Context, socket net.Listener, method string, request, response any) error {
	if socket == nil {
		return nil
	}
	conn, err := grpc.NewClient("unix:"+socket.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return connect(ctx, socket) }))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Invoke(ctx, method, request, response); status.Code(err) == codes.DeadlineExceeded {
		return fmt.Errorf("%s gives no answer: %w", socket.Addr(), err)
	}
	return nil
}

// hangsUp connects, asks for nothing, and waits for the other end to see that.
func hangsUp(ctx context.Context, socket net.Listener) error {
	if socket == nil {
		return nil
	}
	conn, err := connect(ctx, socket)
	// Not ctx.Err(): a dial sees a deadline that passed before the context's own timer says so.
	if failed, ok := errors.AsType[net.Error](err); ok && failed.Timeout() {
		return fmt.Errorf("%s takes no connection: %w", socket.Addr(), err)
	}
	if err != nil {
		return nil // refused at once, which is no hang
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if unix, ok := conn.(*net.UnixConn); ok {
		_ = unix.CloseWrite() // what fails here shows in the read
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && ctx.Err() != nil {
		return fmt.Errorf("%s gives no answer: %w", socket.Addr(), err)
	}
	return nil
}

// connect waits for a place in the socket's queue: where that is full, which it is
// when nobody accepts, connect(2) says EAGAIN at once.
func connect(ctx context.Context, socket net.Listener) (net.Conn, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket.Addr().String())
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(queueRetry):
		}
	}
}
