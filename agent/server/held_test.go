package server_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sealsign/sealsign/agent/server/servertest"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// A caller that sends long requests and reads no answers comes to hold a
// bounded amount of the agent's memory; the rest is refused.
func TestUnreadAnswersAreBounded(t *testing.T) {
	h := servertest.Start(t, servertest.Settings{})
	conn := dialGRPC(t, h.Socket("agent.sock"))
	stream, err := pb.NewSignerClient(conn).SignStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	order := `{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","px":"1","sz":"1"}`
	body := []byte(order + strings.Repeat(" ", 1<<20-len(order)))
	const requests = 60 // 60 MiB, none of whose answers is read before all have been taken
	for i := range requests {
		if err := stream.Send(&pb.SignRequest{Id: uint64(i), Key: "okx", Method: "POST", Url: h.URL("okx", "/api/v5/trade/order"), Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	for range requests {
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if answer.GetStatus().GetCode() == int32(codes.ResourceExhausted) {
			refused++
		}
	}
	if refused == 0 {
		t.Error("all were worked on at once")
	}
	t.Logf("%d of %d refused", refused, requests)
}
