package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/internal/fault"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// SignStream works on up to maxInFlight requests at once and answers each when
// it is ready. It ends when the caller closes its side, or when the server
// stops: then what was taken is answered first.
func (s *signer) SignStream(stream pb.Signer_SignStreamServer) error {
	who, err := callerOf(stream.Context())
	if err != nil {
		return err
	}
	f := &flight{server: s.Server, who: who, stream: stream, places: make(chan struct{}, maxInFlight), held: s.places.held(who.UID)}
	ended := make(chan error, 1)
	go func() { ended <- f.receive() }()
	select {
	case err = <-ended:
		if !errors.Is(err, fault.BadRequest) { // the caller has closed its side, or is gone
			err = nil
		}
	case <-s.draining:
		err = stopping()
	}
	for range maxInFlight {
		f.places <- struct{}{} // each place that is taken for good is a request that is answered
	}
	return err
}

// flight is the requests of one stream.
type flight struct {
	server *Server
	who    *caller.Caller
	stream pb.Signer_SignStreamServer
	places chan struct{} // one for each request that is worked on
	held   *atomic.Int64 // bytes that the caller's uid holds
	send   sync.Mutex    // gRPC takes one message at a time
}

// receive takes requests until the stream ends, and says why it did.
func (f *flight) receive() error {
	ctx := f.stream.Context()
	for {
		request, err := f.stream.Recv()
		if err != nil {
			return err
		}
		select {
		case f.places <- struct{}{}:
			f.server.workers.run(job{ctx, f, request})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// job is one request of a stream.
type job struct {
	ctx     context.Context
	flight  *flight
	request *pb.SignRequest
}

func (j job) do() {
	f := j.flight
	defer func() { <-f.places }()
	size := held + int64(len(j.request.GetBody()))
	total := f.held.Add(size)
	defer f.held.Add(-size)
	response, err := f.sign(j, total)
	if err != nil {
		response = &pb.SignResponse{Id: j.request.GetId(), Status: streamStatus(err)}
	}
	f.send.Lock()
	defer f.send.Unlock()
	_ = f.stream.Send(response) // it fails only where the stream has ended
}

// sign signs, unless the caller's uid holds too much already.
func (f *flight) sign(j job, total int64) (*pb.SignResponse, error) {
	if total > maxHeld {
		j.request.Body = nil // it may wait long for its answer to be read
		return nil, full("uid %d has requests of more than %d bytes on their way", f.who.UID, maxHeld)
	}
	return f.server.sign(j.ctx, f.who, j.request)
}

func stopping() error {
	refusal := fault.New(fault.AgentUnavailable, "the agent is stopping").WithHint("call again once it runs: sealsign doctor")
	refusal.RetryAfter = retrySoon
	return refusal
}

// maxIdleWorkers is how many goroutines wait for work when there is little.
const maxIdleWorkers = 64

// workers run requests. They are kept since a new goroutine would grow its stack
// anew for each request, which takes longer than to sign it.
type workers struct {
	idle atomic.Int32
	next chan job
}

func (w *workers) run(j job) {
	select {
	case w.next <- j:
	default:
		go w.work(j)
	}
}

func (w *workers) work(j job) {
	for {
		j.do()
		if w.idle.Add(1) > maxIdleWorkers {
			w.idle.Add(-1)
			return
		}
		j = <-w.next
		w.idle.Add(-1)
	}
}
