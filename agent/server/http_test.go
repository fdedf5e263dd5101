package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/server/servertest"
	"github.com/sealsign/sealsign/internal/mockvenue"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// wire is a connection to http.sock on which requests are written as they are.
type wire struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dialHTTP(t *testing.T, host *servertest.Host) *wire {
	t.Helper()
	return dialSocket(t, host.Socket("http.sock"))
}

func dialSocket(t *testing.T, path string) *wire {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &wire{t, conn, bufio.NewReader(conn)}
}

func (w *wire) write(raw string) {
	w.t.Helper()
	if _, err := io.WriteString(w.Conn, raw); err != nil {
		w.t.Fatal(err)
	}
}

// read reads one answer whole.
func (w *wire) read() (*http.Response, string) {
	w.t.Helper()
	response, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response, string(body)
}

// ask sends one request and reads its answer.
func ask(t *testing.T, host *servertest.Host, raw string) (*http.Response, string) {
	t.Helper()
	w := dialHTTP(t, host)
	w.write(raw)
	return w.read()
}

// wantRefusal checks an answer that the agent itself gives.
func wantRefusal(t *testing.T, response *http.Response, body string, status int, reason, sent string) {
	t.Helper()
	var text struct {
		Error struct{ Reason, Message, Hint string }
	}
	if err := json.Unmarshal([]byte(body), &text); err != nil {
		t.Errorf("the body %q is not JSON: %v", body, err)
	}
	h := response.Header
	if response.StatusCode != status || h.Get("Sealsign-Reason") != reason || text.Error.Reason != reason || h.Get("Sealsign-Sent") != sent {
		t.Errorf("got %d, Sealsign-Reason %q, Sealsign-Sent %q, body %s, want %d, %s, %s",
			response.StatusCode, h.Get("Sealsign-Reason"), h.Get("Sealsign-Sent"), body, status, reason, sent)
	}
	if text.Error.Message == "" {
		t.Error("the refusal has no message")
	}
}

// records reads the host's log.
func records(t *testing.T, host *servertest.Host) []*audit.Record {
	t.Helper()
	var lines bytes.Buffer
	if err := audit.Tail(context.Background(), host.State+"/audit", 10_000, false, &lines); err != nil {
		t.Fatal(err)
	}
	var all []*audit.Record
	for line := range bytes.Lines(lines.Bytes()) {
		record, err := audit.ParseRecord(bytes.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, record)
	}
	return all
}

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	eventuallyIn(t, 30*time.Second, what, is)
}

func eventuallyIn(t *testing.T, patience time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// newRequest is the signed request as a program sends it.
func newRequest(t *testing.T, signed *pb.SignResponse) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), signed.GetMethod(), signed.GetUrl(), bytes.NewReader(signed.GetBody()))
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range signed.GetHeaders() {
		request.Header.Add(header.GetName(), header.GetValue())
	}
	return request
}

func TestForward(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	acme := host.Venues.Host("acme")
	for name, raw := range map[string]string{
		"by host":          "GET /account?a=1 HTTP/1.1\r\nHost: " + acme + "\r\n\r\n",
		"by host and key":  "GET /account?a=1 HTTP/1.1\r\nHost: " + acme + "\r\nSealsign-Key: acme\r\nCookie: a=b\r\nX-Forwarded-For: x\r\n\r\n",
		"absolute":         "GET http://" + acme + "/account?a=1 HTTP/1.1\r\nHost: " + acme + "\r\n\r\n",
		"by path":          "GET /acme/" + acme + "/account?a=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"by path with URL": "GET /acme/https://" + acme + "/account?a=1 HTTP/1.1\r\nHost: localhost\r\nSealsign-Key: acme\r\n\r\n",
		"own credential":   "GET /account?a=1 HTTP/1.1\r\nHost: " + acme + "\r\nACME-KEY: mine\r\nacme-sign: mine\r\nAuthorization: mine\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			host.Venues.Reset()
			response, body := ask(t, host, raw)
			if response.StatusCode != http.StatusOK || body != `{"ok":true}` || response.Header.Get("Sealsign-Record") == "" || response.Header.Get("Sealsign-Reason") != "" {
				t.Errorf("got %d %v %s", response.StatusCode, response.Header, body)
			}
			arrived := host.Venues.Arrivals("acme")
			if len(arrived) != 1 || arrived[0].Path != "/account" || arrived[0].Query != "a=1" || arrived[0].Problem != "" {
				t.Errorf("at the venue arrived %+v", arrived)
			}
		})
	}
}

func TestForwardWithBody(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	head := "POST /orders HTTP/1.1\r\nHost: " + host.Venues.Host("acme") + "\r\nContent-Type: application/json\r\n"
	order := `{"symbol":"BTCUSDT"}`
	for name, raw := range map[string]string{
		"length": head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(order), order),
		"chunks": head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", order[:5], len(order)-5, order[5:]),
	} {
		t.Run(name, func(t *testing.T) {
			host.Venues.Reset()
			response, body := ask(t, host, raw)
			if response.StatusCode != http.StatusOK {
				t.Errorf("got %d %s", response.StatusCode, body)
			}
			if arrived := host.Venues.Arrivals("acme"); len(arrived) != 1 || string(arrived[0].Body) != order || arrived[0].Problem != "" {
				t.Errorf("at the venue arrived %+v", arrived)
			}
		})
	}
	t.Run("continue", func(t *testing.T) {
		w := dialHTTP(t, host)
		w.write(head + fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(order)))
		if response, _ := w.read(); response.StatusCode != http.StatusContinue {
			t.Fatalf("before the body comes %d", response.StatusCode)
		}
		w.write(order)
		if response, body := w.read(); response.StatusCode != http.StatusOK {
			t.Errorf("got %d %s", response.StatusCode, body)
		}
	})
}

func TestRefusals(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{Role: servertest.DefaultRole + "\n" + `symbols = ["BTCUSDT"]`})
	acme, binance := host.Venues.Host("acme"), host.Venues.Host("binance")
	for name, test := range map[string]struct {
		raw    string
		status int
		reason string
	}{
		"operation":  {"POST /payouts HTTP/1.1\r\nHost: " + acme + "\r\nContent-Length: 0\r\n\r\n", 422, "OPERATION_NOT_GRANTED"},
		"symbol":     {"POST /api/v3/order?symbol=ETHUSDT&side=BUY&type=MARKET&quantity=1 HTTP/1.1\r\nHost: " + binance + "\r\nContent-Length: 0\r\n\r\n", 422, "SYMBOL_NOT_GRANTED"},
		"key":        {"GET /account HTTP/1.1\r\nHost: " + acme + "\r\nSealsign-Key: nobodys\r\n\r\n", 401, "KEY_UNKNOWN"},
		"host":       {"GET /account HTTP/1.1\r\nHost: other.example\r\n\r\n", 422, "HOST_NOT_ALLOWED"},
		"key's host": {"GET /acme/other.example/account HTTP/1.1\r\nHost: localhost\r\n\r\n", 422, "HOST_NOT_ALLOWED"},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := ask(t, host, test.raw)
			wantRefusal(t, response, body, test.status, test.reason, "no")
		})
	}
	for _, venue := range []string{"acme", "binance"} {
		if arrived := host.Venues.Arrivals(venue); len(arrived) > 0 {
			t.Errorf("at %s arrived %+v", venue, arrived)
		}
	}
}

func TestRateLimit(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{Role: servertest.DefaultRole + "\n" + `rate = "1/m"`})
	raw := "GET /account HTTP/1.1\r\nHost: " + host.Venues.Host("acme") + "\r\n\r\n"
	if response, body := ask(t, host, raw); response.StatusCode != http.StatusOK {
		t.Fatalf("got %d %s", response.StatusCode, body)
	}
	response, body := ask(t, host, raw)
	wantRefusal(t, response, body, 429, "RATE_LIMITED", "no")
	if seconds := response.Header.Get("Retry-After"); seconds != "60" {
		t.Errorf("Retry-After is %q", seconds)
	}
}

// TestBadInput holds that what could be read in two ways reaches no venue, is
// answered with its reason, and is in the log.
func TestBadInput(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	acme := host.Venues.Host("acme")
	get := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: " + acme + "\r\n\r\n" }
	post := func(fields, body string) string {
		return "POST /orders HTTP/1.1\r\nHost: " + acme + "\r\n" + fields + "\r\n" + body
	}
	sized := func(fields, body string) string {
		return post(fmt.Sprintf("%sContent-Length: %d\r\n", fields, len(body)), body)
	}
	const asJSON = "Content-Type: application/json\r\n"
	cases := map[string]string{
		"dot segment":                get("/a/../payouts"),
		"empty segment":              get("/a//b"),
		"encoded dot":                get("/%2e%2e/payouts"),
		"encoded slash":              get("/a%2fb"),
		"fragment":                   get("/account#a"),
		"user in target":             "GET http://a@" + acme + "/account HTTP/1.1\r\nHost: " + acme + "\r\n\r\n",
		"parameter twice":            get("/account?a=1&a=2"),
		"parameter in other case":    get("/account?a=1&A=2"),
		"parameter encoded":          get("/account?a=1&%61=2"),
		"semicolon":                  get("/account?a=1;b=2"),
		"broken encoding":            get("/account?a=%2"),
		"in query and body":          "POST /orders?a=1 HTTP/1.1\r\nHost: " + acme + "\r\nContent-Length: 3\r\n\r\na=2",
		"JSON key twice":             sized(asJSON, `{"a":1,"a":2}`),
		"JSON key in other case":     sized(asJSON, `{"o":{"a":1,"A":2}}`),
		"JSON with more after it":    sized(asJSON, `{"a":1} {}`),
		"invalid UTF-8":              sized(asJSON, "{\"a\":\"\xff\"}"),
		"GET with a body":            "GET /account HTTP/1.1\r\nHost: " + acme + "\r\nContent-Length: 3\r\n\r\na=1",
		"length and chunked":         post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
		"oversized":                  post("Content-Length: 1048577\r\n", strings.Repeat("a", 1<<20)),
		"oversized in chunks":        post("Transfer-Encoding: chunked\r\n", "100001\r\n"+strings.Repeat("a", 1<<20)),
		"compressed":                 sized("Content-Encoding: gzip\r\n", "\x1f\x8b"),
		"header injection":           "GET /account HTTP/1.1\r\nHost: " + acme + "\r\nAccept: a\nACME-KEY: b\r\n\r\n",
		"two keys":                   "GET /account HTTP/1.1\r\nHost: " + acme + "\r\nSealsign-Key: acme\r\nSealsign-Key: okx\r\n\r\n",
		"two hosts":                  "GET /account HTTP/1.1\r\nHost: " + acme + "\r\nHost: other.example\r\n\r\n",
		"WebSocket":                  "GET /ws HTTP/1.1\r\nHost: " + acme + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/1.0":                   "GET /account HTTP/1.0\r\nHost: " + acme + "\r\n\r\n",
		"head too long":              "GET /account HTTP/1.1\r\nHost: " + acme + "\r\nAccept: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
		"another method":             "TRACE /account HTTP/1.1\r\nHost: " + acme + "\r\n\r\n",
		"host of the target differs": "GET http://other.example/account HTTP/1.1\r\nHost: " + acme + "\r\n\r\n",
	}
	for name, raw := range cases {
		t.Run(name, func(t *testing.T) {
			w := dialHTTP(t, host)
			go fmt.Fprint(w.Conn, raw) // what is refused early is not read to its end
			response, body := w.read()
			wantRefusal(t, response, body, 400, "BAD_REQUEST", "no")
		})
	}
	t.Run("truncated", func(t *testing.T) {
		w := dialHTTP(t, host)
		w.write(post("Content-Length: 5\r\n", "abc"))
		if err := w.Conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		response, body := w.read()
		wantRefusal(t, response, body, 400, "BAD_REQUEST", "no")
	})
	if arrived := host.Venues.Arrivals("acme"); len(arrived) > 0 {
		t.Errorf("at the venue arrived %+v", arrived)
	}
	eventually(t, "the record of each refusal", func() bool {
		denied := 0
		for _, record := range records(t, host) {
			if record.Decision == audit.Deny && record.Reason == "BAD_REQUEST" && record.Caller == "me" {
				denied += max(1, record.Count)
			}
		}
		return denied == len(cases)+1
	})
}

func TestRequestsOfOneConnection(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	acme := host.Venues.Host("acme")
	get := func(target, more string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: " + acme + "\r\n" + more + "\r\n"
	}
	host.Venues.Behave("acme", "/late", mockvenue.Behaviour{Delay: 200 * time.Millisecond, Status: 418})

	t.Run("pipelined", func(t *testing.T) {
		w := dialHTTP(t, host)
		w.write(get("/late", "") + get("/account", "") + get("/a//b", "") + get("/account", "Connection: close\r\n"))
		for _, want := range []int{418, 200, 400, 200} {
			if response, body := w.read(); response.StatusCode != want {
				t.Errorf("got %d %s, want %d", response.StatusCode, body, want)
			}
		}
		if _, err := w.in.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after Connection: close comes %v", err)
		}
	})
	t.Run("closed when it can't go on", func(t *testing.T) {
		w := dialHTTP(t, host)
		w.write("POST /orders HTTP/1.1\r\nHost: " + acme + "\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc" + get("/account", ""))
		if response, _ := w.read(); response.StatusCode != http.StatusBadRequest || !response.Close {
			t.Errorf("got %d, Close is %v", response.StatusCode, response.Close)
		}
		if rest, err := io.ReadAll(w.in); err != nil || len(rest) > 0 {
			t.Errorf("after it comes %q, %v", rest, err)
		}
	})
}

func TestVenueAnswers(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	get := func(target string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: " + host.Venues.Host("acme") + "\r\n\r\n"
	}
	t.Run("a stream comes as it comes", func(t *testing.T) {
		rest := make(chan struct{})
		host.Venues.Behave("acme", "/stream", mockvenue.Behaviour{Chunks: 10, Hold: rest})
		w := dialHTTP(t, host)
		w.write(get("/stream"))
		response, err := http.ReadResponse(w.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		var first [1024]byte
		if _, err := io.ReadFull(response.Body, first[:]); err != nil {
			t.Fatal(err)
		}
		close(rest) // the venue has not sent more until now
		if more, err := io.ReadAll(response.Body); err != nil || len(more) != 9*1024 {
			t.Errorf("after the first chunk come %d bytes, %v", len(more), err)
		}
		w.write(get("/account")) // the connection is in order
		if response, _ := w.read(); response.StatusCode != http.StatusOK {
			t.Errorf("got %d", response.StatusCode)
		}
	})
	t.Run("one that breaks off does so here", func(t *testing.T) {
		w := dialHTTP(t, host)
		w.write(get("/break"))
		response, err := http.ReadResponse(w.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the body ends with %v", err)
		}
	})
	t.Run("a redirect is passed on", func(t *testing.T) {
		response, _ := ask(t, host, get("/redirect"))
		if response.StatusCode != http.StatusFound || response.Header.Get("Location") != "https://example.com/elsewhere" {
			t.Errorf("got %d to %q", response.StatusCode, response.Header.Get("Location"))
		}
	})
	t.Run("the venue's own limit is the venue's", func(t *testing.T) {
		response, _ := ask(t, host, get("/limited"))
		if response.StatusCode != http.StatusTooManyRequests || response.Header.Get("Retry-After") != "7" || response.Header.Get("Sealsign-Reason") != "" {
			t.Errorf("got %d %v", response.StatusCode, response.Header)
		}
	})
	t.Run("a venue that is away", func(t *testing.T) {
		host.Venues.Close()
		response, body := ask(t, host, get("/account"))
		wantRefusal(t, response, body, 502, "VENUE_UNREACHABLE", "no")
	})
}

// TestClientThatLeaves holds that a venue isn't waited for when nobody waits for us.
func TestClientThatLeaves(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	host.Venues.Behave("acme", "/slow", mockvenue.Behaviour{Hold: make(chan struct{})})
	w := dialHTTP(t, host)
	w.write("GET /slow HTTP/1.1\r\nHost: " + host.Venues.Host("acme") + "\r\n\r\n")
	eventually(t, "the request's arrival", func() bool { return len(host.Venues.Arrivals("acme")) == 1 })
	w.Close()
	eventually(t, "the outcome's record", func() bool {
		all := records(t, host)
		last := all[len(all)-1]
		return last.Kind == audit.KindOutcome && last.Sent == "unknown"
	})
}

// TestManyConnections holds that one uid has 256 places, on both sockets together.
func TestManyConnections(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	if _, err := signerOf(t, host).ListKeys(t.Context(), &pb.ListKeysRequest{}); err != nil {
		t.Fatal(err)
	}
	for range 255 { // each has its place once it has its answer, and keeps it
		w := dialHTTP(t, host)
		w.write("GET /a//b HTTP/1.1\r\nHost: " + host.Venues.Host("acme") + "\r\n\r\n")
		if response, body := w.read(); response.StatusCode != http.StatusBadRequest {
			t.Fatalf("got %d %s", response.StatusCode, body)
		}
	}
	response, body := dialHTTP(t, host).read()
	wantRefusal(t, response, body, 429, "TOO_MANY_CONNECTIONS", "no")
	if response.Header.Get("Retry-After") == "" {
		t.Error("Retry-After is missing")
	}
}

// TestSilentConnections holds that those who say nothing are in nobody's way, and don't stay.
func TestSilentConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a timeout")
	}
	host := servertest.Start(t, servertest.Settings{})
	var silent []*wire
	for i := range 100 {
		silent = append(silent, dialSocket(t, host.Socket([]string{"http.sock", "agent.sock"}[i%2])))
	}
	raw := "GET /account HTTP/1.1\r\nHost: " + host.Venues.Host("acme") + "\r\n\r\n"
	busy := dialHTTP(t, host)
	busy.write(raw)
	if response, body := busy.read(); response.StatusCode != http.StatusOK {
		t.Errorf("among silent connections a request gets %d %s", response.StatusCode, body)
	}
	if _, err := signerOf(t, host).ListKeys(t.Context(), &pb.ListKeysRequest{}); err != nil {
		t.Errorf("among silent connections a call gets %v", err)
	}
	for _, w := range silent {
		if _, err := io.Copy(io.Discard, w.in); err != nil { // gRPC says that it goes away
			t.Fatalf("a connection that says nothing gets %v", err)
		}
	}
	busy.write(raw) // one that has spoken is kept
	if response, _ := busy.read(); response.StatusCode != http.StatusOK {
		t.Errorf("got %d", response.StatusCode)
	}
}

func TestClientThatStopsReading(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a timeout")
	}
	host := servertest.Start(t, servertest.Settings{})
	host.Venues.Behave("acme", "/long", mockvenue.Behaviour{Chunks: 10_000})
	began := time.Now()
	dialHTTP(t, host).write("GET /long HTTP/1.1\r\nHost: " + host.Venues.Host("acme") + "\r\n\r\n")
	signing := signWithoutReading(t, host)

	eventuallyIn(t, time.Minute, "the end of the connection to http.sock", func() bool {
		all := records(t, host)
		return all[len(all)-1].Kind == audit.KindOutcome
	})
	select {
	case <-signing:
	case <-time.After(time.Minute):
		t.Error("the connection to agent.sock goes on")
	}
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("a client that pauses for %v is dropped", took)
	}
}

// deaf is a connection that stops reading, and only sees its end.
type deaf struct {
	*net.UnixConn
	from <-chan struct{}
}

func (d deaf) Read(b []byte) (int, error) {
	select {
	case <-d.from:
	default:
		return d.UnixConn.Read(b)
	}
	raw, err := d.SyscallConn()
	if err != nil {
		return 0, err
	}
	for at := []unix.PollFd{{Events: unix.POLLRDHUP}}; at[0].Revents == 0; time.Sleep(20 * time.Millisecond) {
		if err := raw.Control(func(fd uintptr) {
			at[0].Fd = int32(fd)
			_, _ = unix.Poll(at, 0)
		}); err != nil {
			return 0, err
		}
	}
	return 0, io.EOF
}

// signWithoutReading has requests signed, takes none of the answers, and tells
// when no more requests are taken.
func signWithoutReading(t *testing.T, host *servertest.Host) <-chan struct{} {
	t.Helper()
	from := make(chan struct{})
	conn, err := grpc.NewClient("passthrough:///agent", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(1<<30), grpc.WithInitialConnWindowSize(1<<30), // as if it read
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", host.Socket("agent.sock"))
			if err != nil {
				return nil, err
			}
			return deaf{conn.(*net.UnixConn), from}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := pb.NewSignerClient(conn).SignStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	request := &pb.SignRequest{Method: "GET", Url: host.URL("acme", "/")} // short, so that many of them fit the server's window
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	close(from)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for stream.Send(request) == nil {
			continue
		}
	}()
	return ended
}

func TestStopLetsRequestsEnd(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	idle := dialHTTP(t, host)
	answer := make(chan struct{})
	host.Venues.Behave("acme", "/late", mockvenue.Behaviour{Hold: answer, Status: 418})
	busy := dialHTTP(t, host)
	busy.write("GET /late HTTP/1.1\r\nHost: " + host.Venues.Host("acme") + "\r\n\r\n")
	eventually(t, "the request's arrival", func() bool { return len(host.Venues.Arrivals("acme")) == 1 })
	time.AfterFunc(100*time.Millisecond, func() { close(answer) })
	host.Stop(t)
	if response, body := busy.read(); response.StatusCode != http.StatusTeapot {
		t.Errorf("the request in flight gets %d %s", response.StatusCode, body)
	}
	if _, err := idle.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection gets %v", err)
	}
	if _, err := net.Dial("unix", host.Socket("http.sock")); err == nil {
		t.Error("the socket still takes connections")
	}
}
