package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

const (
	// attempts is how often a request is put to an agent that says it stops, at most. To sign
	// a request again sends nothing twice.
	attempts = 8
	// pause is the first of the waits in between, each twice as long as the one before.
	pause = 5 * time.Millisecond
)

// Sign asks for a signed request. It returns when the agent has answered or ctx
// ends. All calls of a client share one stream, on which they overtake each other.
func (c *Client) Sign(ctx context.Context, request *Request) (*Signed, error) {
	message := &pb.SignRequest{
		Key: request.Key, Method: request.Method, Url: request.URL, Headers: headersOf(request.Header), Body: request.Body,
	}
	for broken := 0; ; {
		s := c.current()
		answer, err := s.call(ctx, message)
		if err == nil {
			return signedOf(answer)
		}
		if s.givenUp.Load() && s.broken() && ctx.Err() == nil {
			continue // another call's end broke the stream, which says nothing of the agent
		}
		if broken++; !again(ctx, err, broken) {
			return nil, err
		}
	}
}

// again tells, and waits for it, whether a request is to be put to the agent anew after so
// many streams broke before the answer. At first it is: the next stream may be another
// agent's. After that only while the agent itself says that it stops, which ends its streams
// a moment before its connections.
func again(ctx context.Context, err error, broken int) bool {
	refusal, ok := errors.AsType[*Error](err)
	if !ok || refusal.Reason != AgentUnavailable {
		return false
	}
	if broken == 1 {
		return true
	}
	if refusal.RetryAfter == 0 || broken == attempts {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause << (broken - 2)):
		return true
	}
}

// current gives the stream in use, or begins one.
func (c *Client) current() *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream == nil || c.stream.broken() {
		c.stream = newStream(c.signer, c.socket)
	}
	return c.stream
}

func headersOf(header http.Header) []*pb.Header {
	if len(header) == 0 {
		return nil
	}
	headers := make([]*pb.Header, 0, len(header))
	for name, values := range header {
		for _, value := range values {
			headers = append(headers, &pb.Header{Name: name, Value: value})
		}
	}
	return headers
}

func signedOf(answer *pb.SignResponse) (*Signed, error) {
	if s := answer.GetStatus(); s != nil {
		return nil, refusalIn(s)
	}
	signed := &Signed{
		Method: answer.GetMethod(), URL: answer.GetUrl(), Header: make(map[string]string, len(answer.GetHeaders())), Body: answer.GetBody(),
		KeyVersion: int(answer.GetKeyVersion()), RecordID: answer.GetRecordId(),
	}
	for _, header := range answer.GetHeaders() {
		signed.Header[header.GetName()] = header.GetValue()
	}
	return signed, nil
}

// Request makes the signed request one that net/http can send.
func (s *Signed) Request(ctx context.Context) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, s.Method, s.URL, bytes.NewReader(s.Body))
	if err != nil {
		return nil, fmt.Errorf("the agent's answer: %w", err)
	}
	for name, value := range s.Header {
		request.Header[name] = []string{value} // not Set, which writes names in a way of its own
	}
	return request, nil
}
