package client_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sealsign/sealsign/agent/server/servertest"
	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/mockvenue"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func dial(t *testing.T, dir string) *client.Client {
	t.Helper()
	c, err := client.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func balance(host *servertest.Host) *client.Request {
	return &client.Request{Key: "okx", Method: "GET", URL: host.URL("okx", "/api/v5/account/balance")}
}

func TestSign(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	c := dial(t, host.Dir)
	order := &client.Request{
		Key: "okx", Method: "POST", URL: host.URL("okx", "/api/v5/trade/order"), Header: http.Header{"Content-Type": {"application/json"}},
		Body: []byte(`{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","px":"1","sz":"1"}`),
	}
	signed, err := c.Sign(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	if signed.Method != http.MethodPost || signed.URL != order.URL || string(signed.Body) != string(order.Body) || signed.KeyVersion != 1 || signed.RecordID == "" {
		t.Errorf("got %+v", signed)
	}
	request, err := signed.Request(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	response, err := host.Venues.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the venue answers %d", response.StatusCode)
	}
}

func TestSignFromManyGoroutines(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{Sync: "interval"})
	c := dial(t, host.Dir)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for j := range 20 {
				url := host.URL("okx", fmt.Sprintf("/api/v5/account/balance?ccy=C%d-%d", i, j))
				signed, err := c.Sign(t.Context(), &client.Request{Key: "okx", Method: "GET", URL: url})
				if err != nil || signed.URL != url {
					t.Errorf("asked for %s, got %+v, %v", url, signed, err)
				}
			}
		})
	}
	all.Wait()
}

func TestRefusals(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{Role: servertest.DefaultRole + "\n" + `rate = "1/m"`})
	c := dial(t, host.Dir)
	admin, err := client.DialAdmin(host.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	if _, err := admin.SuspendKeys(t.Context(), &pb.SuspendKeysRequest{Name: "okx"}); err != nil {
		t.Fatal(err)
	}
	var refusal *client.Error
	_, suspended := c.Sign(t.Context(), balance(host))
	if !errors.Is(suspended, client.KeySuspended) || errors.Is(suspended, client.KeyRevoked) || !errors.As(suspended, &refusal) || refusal.Hint == "" {
		t.Errorf("got %v", suspended)
	}
	if _, err := admin.ResumeKeys(t.Context(), &pb.ResumeKeysRequest{Name: "okx"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sign(t.Context(), balance(host)); err != nil {
		t.Fatal(err)
	}
	_, limited := c.Sign(t.Context(), balance(host))
	if !errors.Is(limited, client.RateLimited) || !errors.As(limited, &refusal) || refusal.RetryAfter <= 0 || refusal.Rule == "" || refusal.Message == "" {
		t.Errorf("got %#v", limited)
	}
	if _, err := c.Login(t.Context(), "nobodys", ""); !errors.Is(err, client.KeyUnknown) {
		t.Errorf("a login with a key that isn't there gets %v", err)
	}
	if _, err := admin.PublicKey(t.Context(), &pb.PublicKeyRequest{Name: "nobodys"}); !errors.Is(err, client.KeyUnknown) {
		t.Errorf("the public key of a key that isn't there is %v", err)
	}
}

func TestKeysAndLogin(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{Role: `allow = ["read", "trade", "cancel", "session"]` + "\n" + `release = "unbound"`})
	t.Setenv("SEALSIGN_RUNTIME_DIR", host.Dir)
	c := dial(t, "")
	keys, err := c.Keys(t.Context())
	if err != nil || len(keys) != 3 || keys[2].Name != "okx" || keys[2].State != "active" || keys[2].Grants[0].Release != "unbound" {
		t.Errorf("got %+v, %v", keys, err)
	}
	login, err := c.Login(t.Context(), "okx", "")
	if err != nil || !strings.Contains(string(login.Message), `"op":"login"`) || login.KeyVersion != 1 {
		t.Errorf("got %+v, %v", login, err)
	}
}

func TestReconnects(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	c := dial(t, host.Dir)
	if _, err := c.Sign(t.Context(), balance(host)); err != nil {
		t.Fatal(err)
	}
	host.Stop(t)
	if _, err := c.Sign(t.Context(), balance(host)); !errors.Is(err, client.AgentUnavailable) {
		t.Errorf("without an agent: %v", err)
	}
	host.Serve(t)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := c.Sign(t.Context(), balance(host))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it doesn't connect anew: %v", err)
		}
	}
}

// A program doesn't see that the agent is restarted on sockets that systemd keeps: what
// it asks for is signed, and its orders arrive once.
func TestRestartIsNotSeen(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	c := dial(t, host.Dir)
	sign := func() error {
		_, err := c.Sign(t.Context(), balance(host))
		return err
	}
	exchange := &http.Client{Transport: c.Transport("okx")}
	send := func() error {
		response, err := exchange.Post(host.URL("okx", "/api/v5/trade/order"), "application/json",
			strings.NewReader(`{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","px":"1","sz":"1"}`))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return errors.Join(err, client.Refusal(response))
	}
	answered := host.RestartUnderLoad(t, 20, sign, send, sign, send, sign, send, sign, send)
	orders := answered[1] + answered[3] + answered[5] + answered[7]
	if seen := host.Venues.Seen("okx").Accepted[mockvenue.Order]; seen != orders {
		t.Errorf("the exchange has %d orders, and %d were answered", seen, orders)
	}
}

// Programs that connect and say nothing hold up neither a restart nor those who ask.
func TestRestartBesideSilentPrograms(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	c := dial(t, host.Dir)
	host.RestartUnderLoad(t, 2, func() error {
		for _, socket := range []string{"agent.sock", "http.sock", "admin.sock"} {
			silent, err := net.Dial("unix", host.Socket(socket))
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = silent.Close() })
		}
		_, err := c.Sign(t.Context(), balance(host))
		time.Sleep(50 * time.Millisecond) // there are 256 places
		return err
	})
}

// An agent that ends after it has taken an order may have sent it: nobody sends it again,
// whatever the program's header says of that.
func TestTakenOrdersAreNotSentAgain(t *testing.T) {
	for _, header := range []string{"Idempotency-Key", "X-Idempotency-Key", "idempotency-key"} {
		t.Run(header, func(t *testing.T) {
			dir := t.TempDir()
			l, err := net.Listen("unix", filepath.Join(dir, "http.sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var orders atomic.Int64
			agent := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					if r.Header.Get(header) != "1" {
						t.Error("the header is lost")
					}
					orders.Add(1)
					panic(http.ErrAbortHandler) // the connection ends without an answer
				}
			})}
			go func() { _ = agent.Serve(l) }()
			defer agent.Close()
			exchange := &http.Client{Transport: dial(t, dir).Transport("okx")}
			if _, err := exchange.Get("https://www.okx.com/"); err != nil { // its connection is kept
				t.Fatal(err)
			}
			order, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://www.okx.com/order", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			order.Header[header] = []string{"1"}
			if _, err := exchange.Do(order); err == nil {
				t.Error("it is answered")
			}
			if n := orders.Load(); n != 1 {
				t.Errorf("it was sent %d times", n)
			}
		})
	}
}

// mute is an agent that takes requests and answers none.
func mute(t *testing.T, serve func(net.Listener) (stop func())) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealsign")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(serve(l))
	return dir
}

type muteSigner struct{ pb.UnimplementedSignerServer }

func (muteSigner) SignStream(stream pb.Signer_SignStreamServer) error {
	<-stream.Context().Done()
	return nil
}

func TestDeadlines(t *testing.T) {
	long := &client.Request{Method: "POST", URL: "https://api.acme.example/orders", Body: make([]byte, 1<<20)}
	for name, serve := range map[string]func(net.Listener) func(){
		"an agent that doesn't take the connection": func(l net.Listener) func() { return func() { l.Close() } },
		"an agent that doesn't read": func(l net.Listener) func() {
			server := grpc.NewServer()
			pb.RegisterSignerServer(server, muteSigner{})
			go func() { _ = server.Serve(l) }()
			return server.Stop
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, mute(t, serve))
			patient, lose := context.WithCancel(t.Context())
			defer lose()
			var all sync.WaitGroup
			all.Go(func() { // more than gRPC takes without sending it
				if _, err := c.Sign(patient, long); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				if _, err := c.Sign(ctx, long); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				cancel()
			}
			ctx, stop := context.WithCancel(t.Context())
			stop()
			if _, err := c.Sign(ctx, long); !errors.Is(err, context.Canceled) {
				t.Errorf("with a context that has ended: %v", err)
			}
			lose()
			all.Wait()
		})
	}
}

func TestTransport(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	t.Setenv("SEALSIGN_RUNTIME_DIR", host.Dir)
	exchange := &http.Client{Transport: client.Transport("acme"), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

	read := func(response *http.Response, err error) (*http.Response, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, string(body)
	}
	url := host.URL("acme", "/account?a=1")
	response, body := read(exchange.Get(url))
	if response.StatusCode != http.StatusOK || body != `{"ok":true}` || client.Refusal(response) != nil || response.Request.URL.String() != url {
		t.Errorf("got %d %s, from %s", response.StatusCode, body, response.Request.URL)
	}
	streamed, writer := io.Pipe() // of unknown length
	go func() {
		fmt.Fprint(writer, "a=1&")
		fmt.Fprint(writer, "b=2")
		_ = writer.Close()
	}()
	if response, body := read(exchange.Post(host.URL("acme", "/orders"), "application/x-www-form-urlencoded", streamed)); response.StatusCode != http.StatusOK {
		t.Errorf("got %d %s", response.StatusCode, body)
	}
	if response, _ := read(exchange.Get(host.URL("acme", "/limited"))); response.StatusCode != http.StatusTooManyRequests || client.Refusal(response) != nil {
		t.Errorf("the venue's own limit is %d, %v", response.StatusCode, client.Refusal(response))
	}
	response, err := exchange.Post(host.URL("acme", "/payouts"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	refusal := client.Refusal(response)
	var details *client.Error
	if !errors.Is(refusal, client.OperationNotGranted) || !errors.As(refusal, &details) || details.Hint == "" || details.MaybeSent {
		t.Errorf("got %d, %#v", response.StatusCode, refusal)
	}
	if _, body := read(response, nil); !strings.Contains(body, "OPERATION_NOT_GRANTED") {
		t.Errorf("afterwards the body is %q", body)
	}
	if _, err := exchange.Get("http://" + host.Venues.Host("acme") + "/account"); !errors.Is(err, client.BadRequest) {
		t.Errorf("an http URL gets %v", err)
	}
	for _, odd := range []string{"https://me:secret@" + host.Venues.Host("acme") + "/account", url + "#part"} {
		if _, err := exchange.Get(odd); !errors.Is(err, client.BadRequest) {
			t.Errorf("%s gets %v", odd, err)
		}
	}
	host.Stop(t)
	exchange.CloseIdleConnections()
	if _, err := exchange.Get(url); !errors.Is(err, client.AgentUnavailable) {
		t.Errorf("without an agent: %v", err)
	}
}

// TestAllReasonsAreExported holds that a program can compare with each reason
// that an agent of the same version has.
func TestAllReasonsAreExported(t *testing.T) {
	want, got := reasons(t, "../internal/fault/fault.go"), reasons(t, "errors.go")
	if len(want) < 20 {
		t.Fatalf("found the reasons %v only", want)
	}
	for name := range want {
		if !got[name] {
			t.Errorf("client.%s is missing", name)
		}
	}
}

// reasons lists the constants of a file that are, or come from, a fault.Reason.
func reasons(t *testing.T, path string) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, declaration := range file.Decls {
		constants, ok := declaration.(*ast.GenDecl)
		if !ok || constants.Tok != token.CONST {
			continue
		}
		for _, spec := range constants.Specs {
			value := spec.(*ast.ValueSpec)
			if len(value.Values) != 1 {
				continue // one of an iota
			}
			typed, ok := value.Type.(*ast.Ident)
			_, selected := value.Values[0].(*ast.SelectorExpr)
			if ok && typed.Name == "Reason" || selected {
				found[value.Names[0].Name] = true
			}
		}
	}
	return found
}
