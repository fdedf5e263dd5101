package systemd

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

type entry struct {
	message  string
	priority journal.Priority
	fields   map[string]string
}

func TestJournalFields(t *testing.T) {
	var sent []entry
	var refused error
	var stderr bytes.Buffer
	log := slog.New(&journalHandler{
		send: func(message string, priority journal.Priority, fields map[string]string) error {
			sent = append(sent, entry{message, priority, fields})
			return refused
		},
		stderr: slog.NewTextHandler(&stderr, nil),
		outlet: newOutlet(),
	})
	refusal := fault.New(fault.TPMUnavailable, "it is away").WithHint("wait")
	log.Debug("not told")
	log.Info("plain")
	log.Warn("the TPM is unavailable", event.Key, event.TPMLost, "device", "/dev/tpmrm0", "error", refusal)
	log.With("key", "binance-main").WithGroup("venue").Error("both", "status-code", 418, slog.Group("in", "side", "a b"))
	for i, want := range []entry{
		{"plain", journal.PriInfo, map[string]string{}},
		{`the TPM is unavailable event=tpm-lost device=/dev/tpmrm0 error="TPM_UNAVAILABLE: it is away"`, journal.PriWarning, map[string]string{
			"MESSAGE_ID": event.TPMLost.ID(), "SEALSIGN_EVENT": "tpm-lost", "SEALSIGN_DEVICE": "/dev/tpmrm0",
			"SEALSIGN_ERROR": refusal.Error(), "SEALSIGN_REASON": "TPM_UNAVAILABLE", "SEALSIGN_HINT": "wait",
		}},
		{`both key=binance-main venue_status-code=418 venue_in.side="a b"`, journal.PriErr, map[string]string{
			"SEALSIGN_KEY": "binance-main", "SEALSIGN_VENUE_STATUS_CODE": "418", "SEALSIGN_VENUE_IN_SIDE": "a b",
		}},
	} {
		if i >= len(sent) {
			t.Fatalf("%d entries were sent", len(sent))
		}
		if got := sent[i]; got.message != want.message || got.priority != want.priority || !maps.Equal(got.fields, want.fields) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	}
	if stderr.Len() > 0 {
		t.Errorf("standard error has %q as well", stderr.String())
	}
	refused = errors.New("the journal is gone")
	log.With("key", "k").Info("kept")
	if !strings.Contains(stderr.String(), "msg=kept key=k") {
		t.Errorf("what the journal refuses is lost: %q", stderr.String())
	}
}

// TestJournalHangs: who logs waits a second for a journal that hangs, once; the lines after
// that are dropped, and counted when it takes lines again.
func TestJournalHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		hangs := make(chan struct{})
		log := slog.New(&journalHandler{
			send: func(message string, _ journal.Priority, _ map[string]string) error {
				<-hangs
				sent = append(sent, message)
				return nil
			},
			outlet: newOutlet(),
		})
		began := time.Now()
		go log.Info("beside the first")
		log.Info("first")
		for range 100 {
			log.Info("dropped")
		}
		if waited := time.Since(began); waited != patience {
			t.Errorf("102 lines took %v", waited)
		}
		close(hangs)
		synctest.Wait()
		log.Info("last")
		if len(sent) != 3 || !strings.HasPrefix(sent[1], "101 lines of this log were dropped") || sent[2] != "last" {
			t.Errorf("the journal has %q", sent)
		}
	})
}
