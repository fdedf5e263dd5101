package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// serveEcho and serveStream, in the environment, make the program a baseline's
// server on that socket.
const (
	serveEcho   = "SEALSIGN_BENCH_ECHO"
	serveStream = "SEALSIGN_BENCH_STREAM"
)

// serveBaseline serves what the environment asks for until standard input ends,
// and tells whether it asked for anything.
func serveBaseline() bool {
	for name, serve := range map[string]func(net.Listener){serveEcho: echoes, serveStream: empties} {
		path := os.Getenv(name)
		if path == "" {
			continue
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		go serve(l)
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends with the process that began this one
		return true
	}
	return false
}

// echoes gives back what comes.
func echoes(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}) //nolint:errcheck // it ends with the connection
	}
}

// blank answers each message of a stream with an empty one.
type blank struct{ pb.UnimplementedSignerServer }

func (blank) SignStream(stream pb.Signer_SignStreamServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the client has closed its side
		}
		if err := stream.Send(&pb.SignResponse{Id: request.GetId()}); err != nil {
			return err
		}
	}
}

func empties(l net.Listener) {
	server := grpc.NewServer()
	pb.RegisterSignerServer(server, blank{})
	_ = server.Serve(l) // it ends with the process
}

// child is a server in a process of its own.
type child struct {
	dir, socket string
	process     *exec.Cmd
	stdin       io.Closer
}

// startTime is how long a server may take until it can be connected to.
const startTime = 10 * time.Second

func startChild(serve string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sealsign-bench")
	if err != nil {
		return nil, err
	}
	c := &child{dir: dir, socket: filepath.Join(dir, "sock"), process: exec.Command(self)}
	c.process.Env = append(os.Environ(), serve+"="+c.socket)
	c.process.Stderr = os.Stderr
	if c.stdin, err = c.process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.process.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startTime); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", c.socket)
		if err == nil {
			return c, conn.Close()
		}
		if time.Now().After(deadline) {
			c.stop()
			return nil, err
		}
	}
}

func (c *child) stop() {
	_ = c.stdin.Close()
	_ = c.process.Wait()
	_ = os.RemoveAll(c.dir)
}

// echo is the least that an answer of another process takes.
type echo struct {
	*child
	conn    net.Conn
	message []byte
}

func startEcho(size int) (*echo, error) {
	c, err := startChild(serveEcho)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("unix", c.socket)
	if err != nil {
		c.stop()
		return nil, err
	}
	return &echo{c, conn, make([]byte, size)}, nil
}

func (e *echo) ask() error {
	if _, err := e.conn.Write(e.message); err != nil {
		return err
	}
	_, err := io.ReadFull(e.conn, e.message)
	return err
}

// stream is a gRPC stream whose other end does nothing.
type stream struct {
	*child
	grpc pb.Signer_SignStreamClient
}

func startStream() (*stream, error) {
	c, err := startChild(serveStream)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("unix:"+c.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		s := &stream{child: c}
		if s.grpc, err = pb.NewSignerClient(conn).SignStream(context.Background()); err == nil {
			return s, nil
		}
	}
	c.stop()
	return nil, err
}

func (s *stream) ask() error {
	if err := s.grpc.Send(new(pb.SignRequest)); err != nil {
		return err
	}
	_, err := s.grpc.Recv()
	return err
}

// flood has one sender and one receiver, with nobody to wake but them.
func (s *stream) flood(n, inFlight int) (float64, error) {
	places := make(chan struct{}, inFlight)
	began := time.Now()
	go func() {
		for range n {
			places <- struct{}{}
			if s.grpc.Send(new(pb.SignRequest)) != nil {
				return // and Recv knows why
			}
		}
	}()
	for range n {
		if _, err := s.grpc.Recv(); err != nil {
			return 0, err
		}
		<-places
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
