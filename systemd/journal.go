package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

// fieldPrefix is what the names of our fields in the journal begin with.
const fieldPrefix = "SEALSIGN_"

// LogHandler writes to standard error, or where that is the journal, to the journal
// with fields: each attribute is one, SEALSIGN_KEY for "key"; of a refusal there are
// SEALSIGN_REASON and SEALSIGN_HINT too; an event is the MESSAGE_ID. MESSAGE is the
// line that standard error would get, so that "journalctl -u" shows all.
func LogHandler() slog.Handler {
	text := slog.NewTextHandler(os.Stderr, nil)
	if toJournal, err := journal.StderrIsJournalStream(); err != nil || !toJournal {
		return text
	}
	return &journalHandler{send: journal.Send, stderr: text, outlet: newOutlet()}
}

// journalHandler sends records by the journal's own protocol.
type journalHandler struct {
	send   func(message string, priority journal.Priority, fields map[string]string) error
	stderr slog.Handler // takes what the journal's socket doesn't
	outlet *outlet
	group  string      // "A_" in a group "a"
	attrs  []slog.Attr // names as fields have them
}

func (*journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.stderr = h.stderr.WithAttrs(attrs)
	with.attrs = h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range attrs {
		with.attrs = append(with.attrs, slog.Attr{Key: h.group + a.Key, Value: a.Value})
	}
	return &with
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.stderr = h.stderr.WithGroup(name)
	with.group = h.group + name + "_"
	return &with
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	fields := make(map[string]string)
	var line bytes.Buffer
	line.WriteString(r.Message)
	text := slog.NewTextHandler(&line, &slog.HandlerOptions{ReplaceAttr: withoutHead})
	tail := slog.NewRecord(r.Time, r.Level, "", r.PC)
	add := func(a slog.Attr) bool {
		put(fields, a)
		tail.AddAttrs(a)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(func(a slog.Attr) bool { return add(slog.Attr{Key: h.group + a.Key, Value: a.Value}) })
	if len(fields) > 0 {
		line.WriteByte(' ')
		if err := text.Handle(ctx, tail); err != nil {
			return err
		}
	}
	h.outlet.write(func(dropped int64) {
		if dropped > 0 {
			_ = h.send(fmt.Sprintf("%d lines of this log were dropped: the journal did not take them in time", dropped), journal.PriWarning, nil)
		}
		if h.send(strings.TrimSuffix(line.String(), "\n"), priority(r.Level), fields) != nil {
			_ = h.stderr.Handle(ctx, r) // there is nothing else to tell it to
		}
	})
	return nil
}

// patience is how long one who logs waits for the journal. One that hangs takes neither
// datagrams nor, from some point on, what is written to standard error, and go-systemd's
// Send has no deadline.
const patience = time.Second

// outlet writes one line after the other. While one is stuck, those that come are dropped.
type outlet struct {
	turn    chan struct{} // whoever writes has put something in
	stuck   atomic.Bool   // who has the turn has had it for longer than patience
	dropped atomic.Int64  // lines since the last that was written
}

func newOutlet() *outlet { return &outlet{turn: make(chan struct{}, 1)} }

// write runs send, which is told how many lines were dropped before it, and waits for it
// as long as there is patience.
func (o *outlet) write(send func(dropped int64)) {
	late := time.NewTimer(patience)
	defer late.Stop()
	if !o.take(late.C) {
		o.dropped.Add(1)
		return
	}
	sent := make(chan struct{})
	go func() {
		send(o.dropped.Swap(0))
		<-o.turn
		close(sent)
	}()
	select {
	case <-sent:
	case <-late.C:
		o.stuck.Store(true)
	}
}

// take takes the turn, unless it doesn't come in time.
func (o *outlet) take(late <-chan time.Time) bool {
	select {
	case o.turn <- struct{}{}:
	default:
		if o.stuck.Load() {
			return false
		}
		select {
		case o.turn <- struct{}{}:
		case <-late:
			return false
		}
	}
	o.stuck.Store(false)
	return true
}

// withoutHead leaves out what a line begins with: the journal has it in fields of its own.
func withoutHead(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// put adds an attribute to the fields.
func put(fields map[string]string, a slog.Attr) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		for _, inner := range value.Group() {
			put(fields, slog.Attr{Key: a.Key + "_" + inner.Key, Value: inner.Value})
		}
		return
	}
	fields[fieldName(a.Key)] = value.String()
	switch v := value.Any().(type) {
	case event.Event:
		fields["MESSAGE_ID"] = v.ID()
	case error:
		if refusal, ok := errors.AsType[*fault.Error](v); ok {
			fields[fieldPrefix+"REASON"], fields[fieldPrefix+"HINT"] = string(refusal.Reason), refusal.Hint
		}
	}
}

// fieldName makes a name that the journal takes: A-Z, 0-9 and "_".
func fieldName(key string) string {
	return fieldPrefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	}
	return journal.PriInfo
}
