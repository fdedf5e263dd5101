package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"

	"github.com/sealsign/sealsign/agent/server/servertest"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// A restart cuts no request off: each is answered, by the daemon before or the one
// after, or it can't be written.
func TestRestartsUnderLoad(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	target := "/api/v5/account/balance"
	raw := "GET " + target + " HTTP/1.1\r\nHost: " + host.Venues.Host("okx") + "\r\n\r\n"
	request := &pb.SignRequest{Key: "okx", Method: "GET", Url: host.URL("okx", target)}
	var asks []func() error
	for range 4 {
		signer := signerOf(t, host)
		asks = append(asks,
			func() error { return askOnce(host, raw) },
			keepsAsking(host, raw),
			func() error {
				conn := dialGRPC(t, host.Socket("agent.sock"))
				defer func() { _ = conn.Close() }()
				_, err := pb.NewSignerClient(conn).Sign(context.Background(), request)
				return err
			},
			func() error {
				_, err := signer.Sign(context.Background(), request)
				return err
			})
	}
	host.RestartUnderLoad(t, 20, asks...)
}

// askOnce connects, asks, and reads the answer.
func askOnce(host *servertest.Host, raw string) error {
	conn, err := net.Dial("unix", host.Socket("http.sock"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, raw); err != nil {
		return err
	}
	_, err = readAnswer(bufio.NewReader(conn))
	return err
}

// keepsAsking asks over one connection while that takes requests, then over another.
func keepsAsking(host *servertest.Host, raw string) func() error {
	var conn net.Conn
	var in *bufio.Reader
	return func() error {
		for {
			if conn == nil {
				var err error
				if conn, err = net.Dial("unix", host.Socket("http.sock")); err != nil {
					return err
				}
				in = bufio.NewReader(conn)
			}
			_, err := io.WriteString(conn, raw)
			last := true
			if err == nil {
				last, err = readAnswer(in)
			}
			if last {
				conn.Close()
				conn = nil
			}
			if !errors.Is(err, syscall.EPIPE) {
				return err
			}
		}
	}
}

// readAnswer tells whether the answer is the connection's last.
func readAnswer(in *bufio.Reader) (last bool, _ error) {
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		return true, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", response.StatusCode, body)
	}
	return response.Close, err
}
