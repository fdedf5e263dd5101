package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/internal/fault"
)

// refusalJSON is the body of every answer that the agent itself gives.
type refusalJSON struct {
	Error struct {
		Reason  fault.Reason `json:"reason"`
		Message string       `json:"message"`
		Hint    string       `json:"hint"`
		Rule    string       `json:"rule,omitempty"`
	} `json:"error"`
}

// refuse answers a request with a refusal.
func (c *httpConn) refuse(h *head, err error) error {
	refusal := fault.From(err)
	var text refusalJSON
	text.Error.Reason, text.Error.Message = refusal.Reason, refusal.Message
	text.Error.Hint, text.Error.Rule = refusal.Hint, refusal.Rule
	body, err := json.Marshal(text)
	if err != nil {
		return err
	}
	body = append(body, '\n')
	sent := "no"
	if refusal.MaybeSent {
		sent = "unknown"
	}
	c.status(answers[refusal.Reason.Class()].status, h)
	fmt.Fprintf(c.out, "Content-Type: application/json\r\nContent-Length: %d\r\nSealsign-Reason: %s\r\nSealsign-Sent: %s\r\n",
		len(body), refusal.Reason, sent)
	if refusal.RetryAfter > 0 {
		seconds := (refusal.RetryAfter + time.Second - 1) / time.Second
		fmt.Fprintf(c.out, "Retry-After: %d\r\n", seconds)
	}
	fmt.Fprint(c.out, "\r\n")
	if h.method != http.MethodHead {
		fmt.Fprintf(c.out, "%s", body)
	}
	return c.out.Flush() // it has the error of every write before it
}

// status begins an answer.
func (c *httpConn) status(code int, h *head) {
	fmt.Fprintf(c.out, "HTTP/1.1 %d %s\r\n", code, http.StatusText(code))
	if h.close {
		fmt.Fprint(c.out, "Connection: close\r\n")
	}
}

// hopByHop are the fields of a venue's answer that are for its connection with
// the agent (RFC 9110, section 7.6.1), or that say how its body is framed there.
var hopByHop = []string{"Connection", "Content-Length", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// pass passes a venue's answer on as it comes. An error means that it is not
// whole: the connection is closed then, so that the client can't take it for whole.
func (c *httpConn) pass(h *head, answer *agent.Answer) (err error) {
	defer c.server.caught(&err)
	response := answer.Response
	defer response.Body.Close()
	for _, list := range response.Header["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			response.Header.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		response.Header.Del(name)
	}
	for name := range response.Header {
		if strings.HasPrefix(name, "Sealsign-") { // only the agent speaks in these
			response.Header.Del(name)
		}
	}
	response.Header.Set("Sealsign-Record", recordID(answer.Record))
	hasBody := response.StatusCode != http.StatusNoContent && response.StatusCode != http.StatusNotModified
	inChunks := hasBody && response.ContentLength < 0
	switch {
	case inChunks:
		response.Header.Set("Transfer-Encoding", "chunked")
	case response.ContentLength > 0 || hasBody:
		response.Header.Set("Content-Length", strconv.FormatInt(response.ContentLength, 10))
	}
	c.status(response.StatusCode, h)
	if err := response.Header.Write(c.out); err != nil {
		return err
	}
	fmt.Fprint(c.out, "\r\n")
	if inChunks { // the rest may be long in coming
		if err := c.out.Flush(); err != nil {
			return err
		}
	}
	if hasBody {
		err = c.passBody(response.Body, inChunks)
	}
	if err != nil {
		return err
	}
	return c.out.Flush()
}

// copyBuffers hold what is between a venue and a client.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// passBody flushes whenever the venue has nothing more to read at once.
func (c *httpConn) passBody(body io.Reader, inChunks bool) error {
	buffer := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buffer)
	var to io.WriteCloser = plain{c.out}
	if inChunks {
		to = httputil.NewChunkedWriter(c.out)
	}
	for {
		n, err := body.Read(buffer[:])
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := c.out.Flush(); err != nil {
			return err
		}
	}
	if err := to.Close(); err != nil {
		return err
	}
	if inChunks {
		fmt.Fprint(c.out, "\r\n") // no trailer fields; NewChunkedWriter leaves this line to its user
	}
	return nil
}

// plain is a body whose length is announced.
type plain struct{ io.Writer }

func (plain) Close() error { return nil }
