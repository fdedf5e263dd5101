package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// stream is one SignStream. A goroutine of its own opens it and hands the
// answers to the calls that wait for them, until it breaks for good.
type stream struct {
	socket string
	cancel context.CancelFunc
	opened chan struct{} // closed: grpc is set, or the stream is broken
	grpc   pb.Signer_SignStreamClient
	turn   chan struct{} // held while sending: gRPC takes one message at a time
	failed chan struct{} // closed: the stream is broken, and err says why
	err    error

	givenUp atomic.Bool // a call that ended while it sent broke the stream

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *pb.SignResponse
}

func newStream(signer pb.SignerClient, socket string) *stream {
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{
		socket: socket, cancel: cancel, opened: make(chan struct{}), turn: make(chan struct{}, 1),
		failed: make(chan struct{}), waiting: make(map[uint64]chan *pb.SignResponse),
	}
	go s.run(ctx, signer)
	return s
}

func (s *stream) run(ctx context.Context, signer pb.SignerClient) {
	var err error
	s.grpc, err = signer.SignStream(ctx)
	if err != nil {
		s.fail(err)
		close(s.opened)
		return
	}
	close(s.opened)
	for {
		answer, err := s.grpc.Recv()
		if err != nil {
			s.fail(err)
			return
		}
		if waiting := s.take(answer.GetId()); waiting != nil {
			waiting <- answer
		}
	}
}

// fail breaks the stream: who waits for an answer gets none.
func (s *stream) fail(err error) {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = refusalOf(err, s.socket)
	close(s.failed)
	for _, waiting := range s.waiting {
		close(waiting)
	}
	s.waiting = nil
}

func (s *stream) broken() bool {
	select {
	case <-s.failed:
		return true
	default:
		return false
	}
}

// call sends a request and waits for its answer. The message is the caller's
// again when call returns.
func (s *stream) call(ctx context.Context, message *pb.SignRequest) (*pb.SignResponse, error) {
	select {
	case <-s.opened: // nearly always, and then the cheapest way to see it
	default:
		select {
		case <-s.opened:
		case <-ctx.Done():
			return nil, ended(ctx)
		}
	}
	id, answer, err := s.expect()
	if err != nil {
		return nil, err
	}
	message.Id = id
	if err := s.send(ctx, message); err != nil {
		s.take(id)
		return nil, err
	}
	select {
	case response := <-answer:
		if response == nil {
			return nil, s.brokenFor(ctx)
		}
		return response, nil
	case <-ctx.Done():
		s.take(id)
		return nil, ended(ctx)
	}
}

// send waits for its turn. A send that ctx ends while the agent takes nothing
// breaks the stream, since gRPC can't give a single message up.
func (s *stream) send(ctx context.Context, message *pb.SignRequest) error {
	select {
	case s.turn <- struct{}{}:
	default:
		select {
		case s.turn <- struct{}{}:
		case <-ctx.Done():
			return ended(ctx)
		}
	}
	defer func() { <-s.turn }()
	stop := context.AfterFunc(ctx, func() {
		s.givenUp.Store(true)
		s.cancel()
	})
	defer stop()
	if s.grpc.Send(message) == nil {
		return nil
	}
	select { // what Send says is only that the stream has ended; Recv knows why
	case <-s.failed:
	case <-ctx.Done():
	}
	return s.brokenFor(ctx)
}

// brokenFor says why a call got no answer: its own context comes first, since
// its end may be what broke the stream.
func (s *stream) brokenFor(ctx context.Context) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return s.err
}

// expect takes an id, and a place for the answer to it.
func (s *stream) expect() (uint64, <-chan *pb.SignResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken() {
		return 0, nil, s.err
	}
	s.last++
	answer := make(chan *pb.SignResponse, 1)
	s.waiting[s.last] = answer
	return s.last, answer, nil
}

// take gives who waits for that answer, once.
func (s *stream) take(id uint64) chan<- *pb.SignResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := s.waiting[id]
	delete(s.waiting, id)
	return answer
}

// ended says that the caller's own context was the end of it.
func ended(ctx context.Context) error {
	return fmt.Errorf("no answer from the agent: %w", context.Cause(ctx))
}
