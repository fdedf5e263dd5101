package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/fault"
)

func (a *app) requestCommand() *cobra.Command {
	var m message
	cmd := &cobra.Command{
		Use:   "request NAME METHOD URL",
		Short: "have the agent send a request, and print the venue's response",
		Long: `request has the agent add the credential, send the request to the venue and hand
back the answer: its body on standard output, its status on standard error.

The exit status is 1 where the agent refused, and where the venue's status is 400
or above.`,
		Example: `  sealsign request binance-main GET https://api.binance.com/api/v3/account
  sealsign request binance-main POST https://api.binance.com/api/v3/order --data 'symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.01'`,
		Args:              words(3, 3),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := m.read(a, cmd, args[1:]); err != nil {
				return err
			}
			return a.withAgent(func(agent *client.Client) error {
				return a.forward(cmd.Context(), agent.Transport(args[0]), &m)
			})
		},
	}
	m.flags(cmd)
	return cmd
}

// forward sends the request through http.sock and prints the answer.
func (a *app) forward(ctx context.Context, transport http.RoundTripper, m *message) error {
	request, err := forwardRequest(ctx, m)
	if err != nil {
		return err
	}
	sender := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer sender.CloseIdleConnections()
	answer, err := sender.Do(request)
	if _, refused := errors.AsType[*fault.Error](err); refused || ctx.Err() != nil {
		return a.explained(err, httpSocket)
	}
	if err != nil {
		return fault.New(fault.AgentUnavailable, "the agent gave no answer").
			WithHint("the request may have been sent: sealsign audit tail").Because(err)
	}
	defer answer.Body.Close()
	if err := client.Refusal(answer); err != nil {
		return refusedForward(err)
	}
	return a.printAnswer(answer)
}

// forwardRequest keeps the URL's target byte for byte, which parsing it would not.
func forwardRequest(ctx context.Context, m *message) (*http.Request, error) {
	host, target, err := venue.ParseURL(m.url)
	if err != nil {
		return nil, err
	}
	path, query, _ := strings.Cut(target, "?")
	request := (&http.Request{
		Method: m.method, Host: host,
		URL:    &url.URL{Scheme: "https", Host: host, Opaque: path, RawQuery: query},
		Header: m.header,
	}).WithContext(ctx)
	if len(m.body) > 0 {
		request.Body = io.NopCloser(bytes.NewReader(m.body))
		request.ContentLength = int64(len(m.body))
	}
	return request, nil
}

// refusedForward adds to a refusal whether the request was sent all the same.
func refusedForward(err error) error {
	refusal, ok := errors.AsType[*fault.Error](err)
	if ok && refusal.MaybeSent {
		refusal.Hint = joined("\n", refusal.Hint, "the request may have been sent: ask the venue before you send it again")
	}
	return err
}

// answerJSON is what `request --json` prints.
type answerJSON struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// printAnswer prints the venue's answer.
func (a *app) printAnswer(answer *http.Response) error {
	if a.json {
		if err := a.printAnswerJSON(answer); err != nil {
			return err
		}
	} else {
		a.notef("the venue answered %s", answer.Status)
		if _, err := io.Copy(a.out, answer.Body); err != nil {
			return cutShort(err)
		}
		if isTerminal(a.out.Writer) {
			a.printf("\n") // venues end no line, a shell's prompt wants one ended
		}
	}
	if answer.StatusCode >= http.StatusBadRequest {
		return errReported
	}
	return nil
}

func (a *app) printAnswerJSON(answer *http.Response) error {
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return cutShort(err)
	}
	if !utf8.Valid(body) {
		return fault.New(failed, "the venue's body is not UTF-8 text, which JSON can't hold").WithHint("leave out --json")
	}
	return a.printJSON(answerJSON{answer.StatusCode, headerJSON(answer.Header), string(body)})
}

// headerJSON is a header with one text for each name.
func headerJSON(header http.Header) map[string]string {
	texts := make(map[string]string, len(header))
	for name, values := range header {
		texts[name] = strings.Join(values, ", ")
	}
	return texts
}

// cutShort is an answer that ended too early.
func cutShort(err error) error {
	return fault.New(failed, "the venue's answer was cut short: %v", err).
		WithHint("the request was sent: sealsign audit tail")
}
