package server

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/sealsign/sealsign/internal/fault"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func TestCodecWipesWhatItRead(t *testing.T) {
	text, err := proto.Marshal(&pb.ImportKeyRequest{Name: "k", Credential: []byte(`{"secret":"hidden"}`)})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]mem.BufferSlice{
		"in one piece": {mem.SliceBuffer(bytes.Clone(text))},
		"in two":       {mem.SliceBuffer(bytes.Clone(text[:9])), mem.SliceBuffer(bytes.Clone(text[9:]))},
	} {
		t.Run(name, func(t *testing.T) {
			request := new(pb.ImportKeyRequest)
			err := read(func(into any) error { return newCodec().Unmarshal(data, into) }, request)
			if err != nil || string(request.GetCredential()) != `{"secret":"hidden"}` {
				t.Errorf("read %q, %v", request.GetCredential(), err)
			}
			for _, buffer := range data {
				if len(bytes.Trim(buffer.ReadOnlyData(), "\x00")) > 0 {
					t.Errorf("%q is left", buffer.ReadOnlyData())
				}
			}
		})
	}
}

// FuzzSignRequest holds that whatever comes on agent.sock is a request in the
// form that the agent takes, or refused.
func FuzzSignRequest(f *testing.F) {
	for _, request := range []*pb.SignRequest{
		{},
		{Id: 1, Key: "okx-main", Method: "GET", Url: "https://www.okx.com/api/v5/account/balance?ccy=BTC"},
		{Method: "POST", Url: "https://www.okx.com:443/api/v5/trade/order", Headers: []*pb.Header{{Name: "Content-Type", Value: "application/json"}}, Body: []byte(`{"instId":"BTC-USDT"}`)},
		{Method: "POST", Url: "HTTPS://a@www.okx.com/../x#y", Headers: []*pb.Header{{Name: "A", Value: "b\r\nC: d"}, nil}},
	} {
		text, err := proto.Marshal(request)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		request := new(pb.SignRequest)
		data := mem.BufferSlice{mem.SliceBuffer(bytes.Clone(text))}
		if err := read(func(into any) error { return newCodec().Unmarshal(data, into) }, request); err != nil {
			if !errors.Is(err, fault.BadRequest) {
				t.Fatalf("%v is no refusal", err)
			}
			return
		}
		ask, err := askOf(request)
		if err != nil {
			if !errors.Is(err, fault.BadRequest) {
				t.Fatalf("%v is no refusal", err)
			}
			return
		}
		r := ask.Request
		if r.Host == "" || r.Host != strings.ToLower(r.Host) || strings.ContainsAny(r.Host, "/?#@") || !strings.HasPrefix(r.Path, "/") || len(r.Body) > maxBody {
			t.Errorf("taken: %s %q %q", r.Method, r.Host, r.Path)
		}
		for _, field := range ask.Header {
			if !isToken(field.Name) || bytes.ContainsAny(field.Value, "\r\n\x00") {
				t.Errorf("taken: header %q: %q", field.Name, field.Value)
			}
		}
	})
}

func TestDefectIsOneRequestsRefusal(t *testing.T) {
	var log bytes.Buffer
	s := &Server{log: slog.New(slog.NewTextHandler(&log, nil))}
	err := func() (err error) {
		defer s.caught(&err)
		panic("a mistake")
	}()
	if !errors.Is(err, fault.InternalError) || strings.Contains(fault.From(err).Message, "mistake") || !strings.Contains(log.String(), "a mistake") {
		t.Errorf("got %v, and in the log %q", err, log.String())
	}
}
