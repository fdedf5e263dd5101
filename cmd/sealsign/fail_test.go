package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

func TestPrintedErrors(t *testing.T) {
	limited := fault.New(fault.RateLimited, "role maker has had 50 requests in a second")
	limited.RetryAfter = 300 * time.Millisecond
	limitedTwice := fault.New(fault.RateLimited, "no more").WithHint("retry in 213ms")
	limitedTwice.RetryAfter = time.Second // HTTP tells whole seconds
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"a refusal", fault.New(fault.KeySuspended, "key a is suspended").WithHint("sealsign key resume a"),
			"sealsign: KEY_SUSPENDED: key a is suspended\n  hint: sealsign key resume a\n"},
		{"a hint of two lines", fault.New(fault.BadRequest, "no").WithHint("one\ntwo"),
			"sealsign: BAD_REQUEST: no\n  hint: one\n  hint: two\n"},
		{"a refusal that passes", limited,
			"sealsign: RATE_LIMITED: role maker has had 50 requests in a second\n  hint: try again in 300ms\n"},
		{"one that says when itself", limitedTwice,
			"sealsign: RATE_LIMITED: no more\n  hint: retry in 213ms\n"},
		{"an error of this process", fmt.Errorf("open x: %w", errors.New("no such file")),
			"sealsign: FAILED: open x: no such file\n"},
		{"a signal", fmt.Errorf("read: %w", context.Canceled),
			"sealsign: INTERRUPTED: stopped by a signal\n"},
		{"what the output has said", errReported, ""},
		{"a message that plays with the terminal", fault.New(fault.BadRequest, "a\r\nsealsign: \x1b[2Kall is well\u202e"),
			"sealsign: BAD_REQUEST: a\ufffd\ufffdsealsign: \ufffd[2Kall is well\ufffd\n"},
	} {
		var got bytes.Buffer
		printError(&got, test.err, false)
		if got.String() != test.want {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got.String(), test.want)
		}
	}
}

func TestErrorsAsJSON(t *testing.T) {
	limited := fault.New(fault.RateLimited, "the limit of <role> is used up").WithHint("retry in 300ms")
	limited.RetryAfter = time.Second
	for err, want := range map[error]string{
		limited:            `{"error":{"reason":"RATE_LIMITED","message":"the limit of <role> is used up","hint":"retry in 300ms"}}` + "\n",
		errors.New("gone"): `{"error":{"reason":"FAILED","message":"gone","hint":""}}` + "\n",
		errReported:        "",
	} {
		var got bytes.Buffer
		printError(&got, err, true)
		if got.String() != want {
			t.Errorf("got %q, want %q", got.String(), want)
		}
	}
}
