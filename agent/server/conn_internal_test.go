package server

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A handshake that is going on when the server stops, or begins then, is not waited for
// as long as it may take otherwise; a connection that has had its own is left alone.
func TestAStopHurriesHandshakes(t *testing.T) {
	s := new(Server)
	s.stopping, s.beginStop = context.WithCancel(t.Context())
	path := filepath.Join(t.TempDir(), "sock")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	accept := func() *conn {
		client, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		accepted, err := listener{socket, s}.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = accepted.Close() })
		return accepted.(*conn)
	}
	shake := func(c *conn) {
		if err := c.SetDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	during, after, done := accept(), accept(), accept()
	shake(during)
	shake(done)
	if err := done.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ends := func(c *conn) {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		_ = c.Close()
	}
	s.beginStop()
	ends(during)
	shake(after)
	ends(after)
	s.arriving.Wait() // for none any more
	read := make(chan error, 1)
	go func() {
		_, err := done.Read(make([]byte, 1))
		read <- err
	}()
	_ = done.Close()
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the one that has had its handshake gets %v", err)
	}
}
