package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/sealsign/sealsign/agent/server/servertest"
	"github.com/sealsign/sealsign/internal/mockvenue"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func dialGRPC(t testing.TB, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func signerOf(t testing.TB, host *servertest.Host) pb.SignerClient {
	return pb.NewSignerClient(dialGRPC(t, host.Socket("agent.sock")))
}

func adminOf(t testing.TB, host *servertest.Host) pb.AdminClient {
	return pb.NewAdminClient(dialGRPC(t, host.Socket("admin.sock")))
}

// wantStatus checks the error of a call.
func wantStatus(t *testing.T, err error, code codes.Code, reason string) (info *errdetails.ErrorInfo, retry *errdetails.RetryInfo) {
	t.Helper()
	s := status.Convert(err)
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			info = detail
		case *errdetails.RetryInfo:
			retry = detail
		}
	}
	if s.Code() != code || info.GetReason() != reason || info.GetDomain() != "sealsign" || s.Message() == "" {
		t.Errorf("got %v, %v, want %v, %s", err, info, code, reason)
	}
	return info, retry
}

func TestSign(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	signed, err := signerOf(t, host).Sign(t.Context(), &pb.SignRequest{
		Id: 7, Key: "okx", Method: "POST", Url: host.URL("okx", "/api/v5/trade/order"),
		Headers: []*pb.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "ok-access-key", Value: "mine"}},
		Body:    []byte(`{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","px":"1","sz":"1","clOrdId":"a1"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if signed.GetId() != 7 || signed.GetKeyVersion() != 1 || signed.GetRecordId() == "" || signed.GetStatus() != nil {
		t.Errorf("got %v", signed)
	}
	request := newRequest(t, signed)
	response, err := host.Venues.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if seen := host.Venues.Seen("okx"); seen.Accepted[mockvenue.Order] != 1 || seen.Refused > 0 {
		t.Errorf("the venue has seen %+v", seen)
	}
}

func TestSignRefusals(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{Role: servertest.DefaultRole + "\n" + `rate = "1/m"`})
	signer := signerOf(t, host)
	read := host.URL("okx", "/api/v5/account/balance")
	if _, err := signer.Sign(t.Context(), &pb.SignRequest{Key: "okx", Method: "GET", Url: read}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		request *pb.SignRequest
		code    codes.Code
		reason  string
	}{
		"operation": {&pb.SignRequest{Key: "okx", Method: "POST", Url: host.URL("okx", "/api/v5/asset/withdrawal"), Body: []byte(`{"ccy":"BTC","amt":"1","dest":"4","toAddr":"x"}`)}, codes.PermissionDenied, "OPERATION_NOT_GRANTED"},
		"not bound": {&pb.SignRequest{Key: "binance", Method: "GET", Url: host.URL("binance", "/api/v3/account")}, codes.PermissionDenied, "RELEASE_NOT_BOUND"},
		"key":       {&pb.SignRequest{Key: "nobodys", Method: "GET", Url: read}, codes.Unauthenticated, "KEY_UNKNOWN"},
		"host":      {&pb.SignRequest{Key: "okx", Method: "GET", Url: "https://other.example/"}, codes.PermissionDenied, "HOST_NOT_ALLOWED"},
		"rate":      {&pb.SignRequest{Key: "okx", Method: "GET", Url: read}, codes.ResourceExhausted, "RATE_LIMITED"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := signer.Sign(t.Context(), test.request)
			info, retry := wantStatus(t, err, test.code, test.reason)
			if (retry != nil) != (test.reason == "RATE_LIMITED") {
				t.Errorf("RetryInfo is %v", retry)
			}
			if info.GetMetadata()["hint"] == "" && info.GetMetadata()["rule"] == "" {
				t.Error("neither hint nor rule")
			}
		})
	}
}

func TestSignBadInput(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	signer := signerOf(t, host)
	okx := func(target string) string { return host.URL("okx", target) }
	for name, request := range map[string]*pb.SignRequest{
		"nothing":          {},
		"http":             {Method: "GET", Url: strings.Replace(okx("/api/v5/account/balance"), "https", "http", 1)},
		"user":             {Method: "GET", Url: "https://a:b@www.okx.com/api/v5/account/balance"},
		"fragment":         {Method: "GET", Url: okx("/api/v5/account/balance#a")},
		"dot segment":      {Method: "GET", Url: okx("/api/v5/account/../asset")},
		"encoded slash":    {Method: "GET", Url: okx("/api/v5%2faccount")},
		"parameter twice":  {Method: "GET", Url: okx("/api/v5/account/balance?ccy=BTC&CCY=ETH")},
		"GET with a body":  {Method: "GET", Url: okx("/api/v5/account/balance"), Body: []byte("a=1")},
		"body too long":    {Method: "POST", Url: okx("/api/v5/trade/order"), Body: make([]byte, 1<<20+1)},
		"header injection": {Method: "GET", Url: okx("/api/v5/account/balance"), Headers: []*pb.Header{{Name: "Accept", Value: "a\r\nOK-ACCESS-KEY: b"}}},
		"header name":      {Method: "GET", Url: okx("/api/v5/account/balance"), Headers: []*pb.Header{{Name: "Acc ept", Value: "a"}}},
		"headers too long": {Method: "GET", Url: okx("/api/v5/account/balance"), Headers: []*pb.Header{{Name: "Accept", Value: strings.Repeat("a", 64<<10)}}},
		"too many headers": {Method: "GET", Url: okx("/api/v5/account/balance"), Headers: make([]*pb.Header, 101)},
		"two types":        {Method: "POST", Url: okx("/api/v5/trade/order"), Body: []byte("{}"), Headers: []*pb.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "content-type", Value: "application/json"}}},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range request.Headers {
				if request.Headers[i] == nil {
					request.Headers[i] = &pb.Header{Name: "A", Value: "b"}
				}
			}
			_, err := signer.Sign(t.Context(), request)
			wantStatus(t, err, codes.InvalidArgument, "BAD_REQUEST")
		})
	}
}

// raw sends bytes that need be no message.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (raw) Unmarshal(mem.BufferSlice, any) error { return nil }
func (raw) Name() string                         { return "proto" }

func TestMessagesThatAreNone(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	conn := dialGRPC(t, host.Socket("agent.sock"))
	for name, message := range map[string][]byte{
		"not protobuf":  []byte("\xff\xff\xff"),
		"invalid UTF-8": []byte("\x12\x01\xff"), // field 2, the key
	} {
		t.Run(name, func(t *testing.T) {
			err := conn.Invoke(t.Context(), pb.Signer_Sign_FullMethodName, message, new(any), grpc.ForceCodecV2(raw{}))
			wantStatus(t, err, codes.InvalidArgument, "BAD_REQUEST")

			stream, err := conn.NewStream(t.Context(), &pb.Signer_ServiceDesc.Streams[0], pb.Signer_SignStream_FullMethodName, grpc.ForceCodecV2(raw{}))
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.SendMsg(message); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, stream.RecvMsg(new(any)), codes.InvalidArgument, "BAD_REQUEST")
		})
	}
}

func TestSignStream(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	stream, err := signerOf(t, host).SignStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const requests = 500
	var sending sync.WaitGroup
	sending.Go(func() {
		for id := range uint64(requests) {
			request := &pb.SignRequest{Id: id, Key: "okx", Method: "GET", Url: host.URL("okx", fmt.Sprintf("/api/v5/account/balance?ccy=C%d", id))}
			if id%10 == 0 {
				request.Key = "nobodys"
			}
			if err := stream.Send(request); err != nil {
				t.Error(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
	})
	answered := make(map[uint64]bool)
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		id := answer.GetId()
		if answered[id] {
			t.Errorf("request %d is answered twice", id)
		}
		answered[id] = true
		switch refused := answer.GetStatus(); {
		case id%10 == 0:
			if refused.GetReason() != "KEY_UNKNOWN" || refused.GetCode() != int32(codes.Unauthenticated) || refused.GetMessage() == "" || answer.GetUrl() != "" {
				t.Errorf("request %d gets %v", id, answer)
			}
		case refused != nil || !strings.HasSuffix(answer.GetUrl(), fmt.Sprintf("?ccy=C%d", id)):
			t.Errorf("request %d gets %v", id, answer)
		}
	}
	sending.Wait()
	if len(answered) != requests {
		t.Errorf("%d of %d requests are answered", len(answered), requests)
	}
}

func TestStopEndsStreams(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	stream, err := signerOf(t, host).SignStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	request := &pb.SignRequest{Key: "okx", Method: "GET", Url: host.URL("okx", "/api/v5/account/balance")}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	if answer, err := stream.Recv(); err != nil || answer.GetStatus() != nil {
		t.Fatal(answer, err)
	}
	host.Stop(t)
	_, err = stream.Recv()
	if _, retry := wantStatus(t, err, codes.Unavailable, "AGENT_UNAVAILABLE"); retry == nil {
		t.Error("no RetryInfo")
	}
}

func TestStreamsOfOneCaller(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	signer := signerOf(t, host)
	ctx, cancel := context.WithCancel(t.Context())
	for range 1024 {
		if _, err := signer.SignStream(ctx); err != nil {
			t.Fatal(err)
		}
	}
	inUse(t, host, 1024)
	other := signerOf(t, host) // another connection of the same caller
	_, err := other.ListKeys(t.Context(), &pb.ListKeysRequest{})
	wantStatus(t, err, codes.ResourceExhausted, "TOO_MANY_CONNECTIONS")
	cancel()
	eventually(t, "the end of the streams", func() bool {
		_, err := other.ListKeys(t.Context(), &pb.ListKeysRequest{})
		return err == nil
	})
}

// inUse waits for so many calls and streams. To call for that would take a place.
func inUse(t *testing.T, host *servertest.Host, streams int) {
	t.Helper()
	eventually(t, "the beginning of them all", func() bool {
		answer := httptest.NewRecorder()
		host.Agent.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return strings.Contains(answer.Body.String(), fmt.Sprintf("\nsealsign_streams %d\n", streams))
	})
}

// A call that is begun and whose message doesn't come takes a place, and doesn't keep it.
func TestCallsWithoutAMessage(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a timeout")
	}
	host := servertest.Start(t, servertest.Settings{})
	conn := dialGRPC(t, host.Socket("agent.sock"))
	var calls []grpc.ClientStream
	for range 1024 { // ClientStreams: so that gRPC sends the header alone
		call, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, pb.Signer_Sign_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call)
	}
	inUse(t, host, 1024)
	other := signerOf(t, host)
	_, err := other.ListKeys(t.Context(), &pb.ListKeysRequest{})
	wantStatus(t, err, codes.ResourceExhausted, "TOO_MANY_CONNECTIONS")
	for _, call := range calls {
		if err := call.RecvMsg(new(pb.SignResponse)); err == nil {
			t.Fatal("a call without a message is answered")
		}
	}
	eventually(t, "places for other calls", func() bool {
		_, err := other.ListKeys(t.Context(), &pb.ListKeysRequest{})
		return err == nil
	})
}

func TestListKeys(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{Role: `allow = ["read", "GET /private"]` + "\n" + `rate = "50/s"` + "\n" + `symbols = ["BTCUSDT"]`})
	answer, err := signerOf(t, host).ListKeys(t.Context(), &pb.ListKeysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.GetKeys()) != 3 {
		t.Fatalf("got %v", answer)
	}
	key, grant := answer.GetKeys()[0], answer.GetKeys()[0].GetGrants()[0]
	if key.GetName() != "acme" || key.GetState() != "active" || key.GetHosts()[0] != host.Venues.Host("acme") ||
		strings.Join(grant.GetAllow(), ",") != "GET /private,read" || grant.GetRate() != "50/s" || grant.GetRelease() != "never" || grant.GetSymbols()[0] != "BTCUSDT" {
		t.Errorf("got %v", key)
	}
}

func TestLogin(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{Role: `allow = ["read", "trade", "cancel", "session"]` + "\n" + `release = "unbound"`})
	login, err := signerOf(t, host).Login(t.Context(), &pb.LoginRequest{Key: "okx"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(login.GetMessage()), `"op":"login"`) || login.GetRecordId() == "" {
		t.Errorf("got %v", login)
	}
}

func TestAdmin(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	admin, signer, ctx := adminOf(t, host), signerOf(t, host), t.Context()
	balance := &pb.SignRequest{Key: "okx", Method: "GET", Url: host.URL("okx", "/api/v5/account/balance")}

	state, err := admin.Status(ctx, &pb.StatusRequest{})
	if err != nil || !state.GetConfig().GetOk() || !state.GetTpm().GetOk() || !state.GetAudit().GetOk() || len(state.GetKeys()) != 3 || state.GetEnvironment() != "test" {
		t.Errorf("status is %v, %v", state, err)
	}
	imported, err := admin.ImportKey(ctx, &pb.ImportKeyRequest{Name: "okx", Credential: host.Venues.Credential("okx", "hmac-sha256").JSON()})
	if err != nil || imported.GetVersion() != 2 || imported.GetKey().GetActive() != 2 {
		t.Errorf("import gives %v, %v", imported, err)
	}
	_, err = admin.ImportKey(ctx, &pb.ImportKeyRequest{Name: "nobodys", Credential: []byte("{}")})
	wantStatus(t, err, codes.InvalidArgument, "BAD_REQUEST")
	_, err = admin.GenerateKey(ctx, &pb.GenerateKeyRequest{Name: "nobodys"})
	wantStatus(t, err, codes.Unauthenticated, "KEY_UNKNOWN")
	_, err = admin.SuspendKeys(ctx, &pb.SuspendKeysRequest{})
	wantStatus(t, err, codes.InvalidArgument, "BAD_REQUEST")
	if suspended, err := admin.SuspendKeys(ctx, &pb.SuspendKeysRequest{All: true}); err != nil || len(suspended.GetKeys()) != 3 || suspended.GetKeys()[0].GetState() != "suspended" {
		t.Errorf("suspend gives %v, %v", suspended, err)
	}
	_, err = signer.Sign(ctx, balance)
	wantStatus(t, err, codes.FailedPrecondition, "KEY_SUSPENDED")
	if resumed, err := admin.ResumeKeys(ctx, &pb.ResumeKeysRequest{Name: "okx"}); err != nil || len(resumed.GetKeys()) != 1 || resumed.GetKeys()[0].GetState() != "active" {
		t.Errorf("resume gives %v, %v", resumed, err)
	}
	if _, err = signer.Sign(ctx, balance); err != nil {
		t.Error(err)
	}
	for _, unclear := range []*pb.RevokeKeyRequest{{Name: "okx"}, {Name: "okx", Version: 1, All: true}} {
		_, err = admin.RevokeKey(ctx, unclear)
		wantStatus(t, err, codes.InvalidArgument, "BAD_REQUEST")
	}
	if _, err = admin.RevokeKey(ctx, &pb.RevokeKeyRequest{Name: "okx", All: true}); err != nil {
		t.Error(err)
	}
	_, err = signer.Sign(ctx, balance)
	wantStatus(t, err, codes.FailedPrecondition, "KEY_REVOKED")
	if note, err := admin.Checkpoint(ctx, &pb.CheckpointRequest{}); err != nil || !strings.Contains(note.GetCheckpoint(), "sealsign/test\n") {
		t.Errorf("checkpoint gives %v, %v", note, err)
	}
	if key, err := admin.AuditPublicKey(ctx, &pb.AuditPublicKeyRequest{}); err != nil || !strings.Contains(key.GetPublicKey(), "PUBLIC KEY") || key.GetVerifierKey() == "" {
		t.Errorf("the log's key is %v, %v", key, err)
	}
	if doctor, err := admin.Doctor(ctx, &pb.DoctorRequest{}); err != nil || len(doctor.GetFindings()) == 0 {
		t.Errorf("doctor says %v, %v", doctor, err)
	}
}

func TestAdminTestPolicy(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	admin := adminOf(t, host)
	order := &pb.TestPolicyRequest{Caller: "me", Key: "binance", Method: "POST", Url: host.URL("binance", "/api/v3/order?symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=2&price=3")}
	answer, err := admin.TestPolicy(t.Context(), order)
	if err != nil || !answer.GetAllowed() || answer.GetRule() != "roles.all.allow" || len(answer.GetEffects()) != 1 || answer.GetEffects()[0] != "trade BTCUSDT buy LIMIT quantity 2 price 3" {
		t.Errorf("got %v, %v", answer, err)
	}
	order.Release = true
	answer, err = admin.TestPolicy(t.Context(), order)
	if err != nil || answer.GetAllowed() || answer.GetReason() != "RELEASE_NOT_BOUND" || answer.GetHint() == "" {
		t.Errorf("as a release: %v, %v", answer, err)
	}
	if arrived := host.Venues.Arrivals("binance"); len(arrived) > 0 {
		t.Errorf("at the venue arrived %v", arrived)
	}
}

func TestAdminReloadTellsOfABadConfig(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{})
	if err := os.WriteFile(host.Config, []byte("version = 1\nnonsense = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	answer, err := adminOf(t, host).Reload(t.Context(), &pb.ReloadRequest{})
	if err != nil || answer.GetConfig().GetOk() || !strings.Contains(answer.GetConfig().GetError(), "nonsense") {
		t.Errorf("got %v, %v", answer, err)
	}
}

// TestStrangers calls all sockets as nobody, by running this test again: as if
// their modes didn't keep such a caller out.
func TestStrangers(t *testing.T) {
	if dir := os.Getenv("SOCKETS"); dir != "" {
		askAsStranger(t, &servertest.Host{Dir: dir})
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	host := servertest.Start(t, servertest.Settings{})
	for path, mode := range map[string]os.FileMode{
		host.Dir + "/..": 0o755, host.Socket("agent.sock"): 0o666, host.Socket("http.sock"): 0o666, host.Socket("admin.sock"): 0o666,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	copied := host.Dir + "/test"                                 // where nobody may read it
	if err := os.WriteFile(copied, program, 0o755); err != nil { //nolint:gosec // so that nobody may run it
		t.Fatal(err)
	}
	again := exec.Command(copied, "-test.run=^TestStrangers$", "-test.v")
	again.Dir = "/"
	again.Env = append(os.Environ(), "SOCKETS="+host.Dir)
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if output, err := again.CombinedOutput(); err != nil || !strings.Contains(string(output), "--- PASS: TestStrangers") {
		t.Errorf("%v\n%s", err, output)
	}
}

func askAsStranger(t *testing.T, host *servertest.Host) {
	_, err := adminOf(t, host).Status(t.Context(), &pb.StatusRequest{})
	wantStatus(t, err, codes.Unauthenticated, "CALLER_UNKNOWN")
	_, err = signerOf(t, host).ListKeys(t.Context(), &pb.ListKeysRequest{})
	wantStatus(t, err, codes.Unauthenticated, "CALLER_UNKNOWN")
	_, err = signerOf(t, host).Sign(t.Context(), &pb.SignRequest{Key: "acme", Method: "GET", Url: "https://api.acme.example/account"})
	wantStatus(t, err, codes.Unauthenticated, "CALLER_UNKNOWN")
	response, body := ask(t, host, "GET /account HTTP/1.1\r\nHost: api.acme.example\r\n\r\n")
	wantRefusal(t, response, body, 401, "CALLER_UNKNOWN", "no")
}
