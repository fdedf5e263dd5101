package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// forwarder serves http.sock.
type forwarder struct {
	*Server
	mu    sync.Mutex
	conns map[*httpConn]struct{}
	ended sync.WaitGroup // counts conns
}

// httpConn is one connection. Its requests are served one after the other, so
// that pipelined ones are answered in their order.
type httpConn struct {
	*conn
	server *Server
	in     *bufio.Reader
	out    *bufio.Writer
	idle   atomic.Bool // waits for a request
	served atomic.Bool // has had one
	last   bool        // takes none that isn't there
}

func (f *forwarder) serve(l net.Listener) error {
	for delay := time.Duration(0); ; {
		accepted, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // no descriptor is free, most likely: others close theirs
			delay = min(2*delay+5*time.Millisecond, time.Second)
			f.log.Error("http.sock takes no connection", "error", err)
			time.Sleep(delay)
			continue
		}
		delay = 0
		c, ok := accepted.(*conn)
		if !ok {
			return errors.New("not a connection of this server's")
		}
		go f.serveConn(f.enter(c))
	}
}

func (f *forwarder) serveConn(c *httpConn) {
	defer f.leave(c)
	defer func() { _ = c.Close() }()
	if err := c.identify(&f.places); err != nil {
		f.turnedAway("http.sock", err)
		_ = c.refuse(&head{close: true}, err)
		return
	}
	for wait := firstTimeout; c.await(wait) && c.serveRequest(); {
		wait = idleTimeout
	}
}

func (f *forwarder) enter(accepted *conn) *httpConn {
	c := &httpConn{conn: accepted, server: f.Server, in: bufio.NewReader(accepted), out: bufio.NewWriter(accepted)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = struct{}{}
	f.ended.Add(1)
	c.arrived()
	return c
}

func (f *forwarder) leave(c *httpConn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
	f.ended.Done()
}

// stop lets each connection end the request that it is on, or that is there. Whoever has
// connected just now is about to ask for something. All are closed when ctx ends.
func (f *forwarder) stop(ctx context.Context) {
	f.each(func(c *httpConn) {
		switch {
		case !c.idle.Load():
		case c.served.Load():
			c.interrupt()
		default:
			c.patience(stopTimeout)
		}
	})
	done := make(chan struct{})
	go func() {
		f.ended.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		f.each(func(c *httpConn) { _ = c.Close() })
	}
}

func (f *forwarder) each(do func(*httpConn)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		do(c)
	}
}

// interrupt makes the read that the connection waits in return.
func (c *httpConn) interrupt() { _ = c.SetReadDeadline(time.Unix(1, 0)) }

// patience sets how long the next reads may take in all.
func (c *httpConn) patience(d time.Duration) { _ = c.SetReadDeadline(time.Now().Add(d)) }

// await waits until a request begins. The order of the first three lines is what
// makes stop meet every connection that waits.
func (c *httpConn) await(d time.Duration) bool {
	c.patience(d)
	c.idle.Store(true)
	defer c.idle.Store(false)
	if c.server.isStopping() {
		if c.served.Load() {
			return c.lastCall()
		}
		c.patience(stopTimeout)
	}
	_, err := c.in.Peek(1)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return c.lastCall()
	}
	return err == nil
}

// lastCall tells whether a request has come by now. From here on the client can't write
// (EPIPE: shutdown(2) with SHUT_RD, unix(7)), so it knows that a later one is not taken.
func (c *httpConn) lastCall() bool {
	c.last = true
	_ = c.CloseRead()
	_ = c.SetReadDeadline(time.Time{}) // the read waits for nothing
	_, err := c.in.Peek(1)
	return err == nil
}

// serveRequest serves one request and tells whether there may be a next.
func (c *httpConn) serveRequest() bool {
	c.served.Store(true)
	h := new(head)
	body, err := c.read(h)
	if err != nil {
		h.close = true
		_ = c.refuse(h, c.server.refuse(c.who, askedFor(h), err))
		c.linger()
		return false
	}
	if c.last || c.server.isStopping() {
		h.close = true
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopWatching := c.watch(cancel)
	defer stopWatching()

	answer, err := c.forward(ctx, h, body)
	if err != nil {
		return c.refuse(h, err) == nil && !h.close
	}
	return c.pass(h, answer) == nil && !h.close
}

// read reads one whole request. Its error is a refusal, after which nothing more
// can be read from the connection.
func (c *httpConn) read(h *head) (body []byte, err error) {
	defer c.server.caught(&err)
	c.patience(headTimeout)
	text, err := readHead(c.in)
	if err != nil {
		return nil, inTime(err, "head", headTimeout)
	}
	if err := h.parse(text); err != nil {
		return nil, err
	}
	c.patience(bodyTimeout)
	if h.expect && h.length != 0 && c.in.Buffered() == 0 {
		if _, err := io.WriteString(c.conn, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return nil, inTime(err, "body", bodyTimeout)
		}
	}
	if body, err = readBody(c.in, h.length); err != nil {
		return nil, inTime(err, "body", bodyTimeout)
	}
	return body, nil
}

// inTime gives the errors of a connection a form that can be answered.
func inTime(err error, part string, limit time.Duration) error {
	var refusal *fault.Error
	switch {
	case errors.As(err, &refusal):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return malformed("the request's %s did not arrive in %v", part, limit)
	}
	return malformed("the connection ended within the request's %s", part)
}

// forward reads what the request asks for and has the agent send it.
func (c *httpConn) forward(ctx context.Context, h *head, body []byte) (_ *agent.Answer, err error) {
	defer c.server.caught(&err)
	if c.refusal != nil {
		return nil, c.refusal
	}
	ask := askedFor(h)
	if err := c.ask(ask, h, body); err != nil {
		return nil, c.server.refuse(c.who, ask, err)
	}
	return c.server.agent.Do(ctx, c.who, ask)
}

// ask fills ask from a request; with an error, as far as it can be read.
func (c *httpConn) ask(ask *agent.Ask, h *head, body []byte) error {
	switch {
	case h.lists("Upgrade", "websocket"): // any other upgrade may be ignored, and is (RFC 9110, section 7.8)
		return fault.New(fault.BadRequest, "WebSocket forwarding is not in this version").
			WithHint("sealsign login NAME gives the message that logs a connection of your own in")
	case h.field("Content-Encoding") != "":
		return fault.New(fault.BadRequest, "a request's body can't be encoded").WithHint("send it without Content-Encoding")
	}
	aim, err := aimOf(h, c.server.agent.KeyHosts)
	if err != nil {
		return err
	}
	ask.Key, ask.Request.Host = aim.key, aim.host
	request, err := venue.NewRequest(h.method, aim.host, aim.target, h.field("Content-Type"), body)
	if err != nil {
		return err
	}
	ask.Request = request
	ask.Header = endToEnd(h)
	return nil
}

// askedFor begins an ask with what is known of a request by its head.
func askedFor(h *head) *agent.Ask {
	ask := &agent.Ask{Mode: policy.Forward}
	ask.Request.Method, ask.Request.Host = h.method, h.host
	return ask
}

// ownFields are the fields that are for this connection or for the agent.
var ownFields = map[string]bool{
	"connection": true, "content-length": true, "expect": true, "host": true, "keep-alive": true,
	"proxy-authorization": true, "proxy-connection": true, "te": true, "transfer-encoding": true, "upgrade": true,
}

// endToEnd gives the app's fields without those of the connection. Which of
// them go out, the venue's table says.
func endToEnd(h *head) []venue.Field {
	fields := make([]venue.Field, 0, len(h.fields))
	hops := h.words("Connection")
	for _, field := range h.fields {
		name := strings.ToLower(field.Name)
		if ownFields[name] || strings.HasPrefix(name, "sealsign-") || hops[name] {
			continue
		}
		fields = append(fields, field)
	}
	return fields
}

// watch calls gone when the client closes its side before it has its answer:
// what is not sent by then shall not be. The function it returns ends that.
func (c *httpConn) watch(gone func()) (stop func()) {
	if c.last || c.in.Buffered() > 0 { // the end can't be seen, or the next request is there already
		return func() {}
	}
	_ = c.SetReadDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := c.in.Peek(1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			gone()
		}
	}()
	return func() {
		c.interrupt()
		<-done
	}
}

// linger lets a refused client finish what it is sending, so that it reads the
// answer instead of finding the connection broken.
func (c *httpConn) linger() {
	c.patience(lingerTimeout)
	if c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c.in, lingerBytes)
	}
}
