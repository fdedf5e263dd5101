package audit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

func denied(caller, rule string) *Record {
	r := sample()
	r.Effects, r.Decision, r.Caller, r.Rule, r.Reason = nil, Deny, caller, rule, "RATE_LIMITED"
	return r
}

func TestDenialsAreMerged(t *testing.T) {
	clock := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	l := openLog(t, t.TempDir(), signed(Options{Now: func() time.Time { return clock }}))
	deny := func(caller, rule string, times int) {
		t.Helper()
		for range times {
			if _, err := l.AppendDenial(denied(caller, rule)); err != nil {
				t.Fatal(err)
			}
		}
	}
	deny("alpha", "a", 5)
	deny("alpha", "b", 1)
	deny("beta", "a", 2)
	l.tick() // not a second yet
	clock = clock.Add(syncEvery)
	l.tick()
	deny("alpha", "a", 3)
	deny("beta", "a", 1)
	clock = clock.Add(syncEvery)
	l.tick()
	clock = clock.Add(syncEvery)
	l.tick() // forgets them
	deny("beta", "a", 1)
	deny("alpha", "a", 2)
	_ = l.Close() // writes what is left
	got := map[string][]int{}
	for _, r := range readAll(t, l.dir) {
		key := r.Caller + " " + r.Rule
		got[key] = append(got[key], r.Count)
	}
	want := map[string][]int{"alpha a": {0, 4, 3, 0, 1}, "alpha b": {0}, "beta a": {0, 1, 1, 0}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	mustVerify(t, l.dir, 10)
}

func TestUnknownCallersAreMergedByUID(t *testing.T) {
	l := openLog(t, t.TempDir(), signed(Options{}))
	for uid := range uint32(3) {
		for range 4 {
			r := denied("", "")
			r.UID = uid
			if _, err := l.AppendDenial(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = l.Close()
	if n := len(readAll(t, l.dir)); n != 6 {
		t.Errorf("%d records, want a first and a merged one for each of three", n)
	}
}

func TestDenialsBeyondTheTableAreWritten(t *testing.T) {
	l := openLog(t, t.TempDir(), signed(Options{Sync: SyncInterval}))
	for range 2 {
		for i := range maxPairs + 10 {
			if _, err := l.AppendDenial(denied("alpha", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(l.denials.pairs); n > maxPairs {
		t.Errorf("%d pairs are tracked", n)
	}
	_ = l.Close()
	denials := 0
	for _, r := range readAll(t, l.dir) {
		denials += max(r.Count, 1)
	}
	if denials != 2*(maxPairs+10) {
		t.Errorf("%d denials are told of", denials)
	}
}

func TestMergedDenialsSurviveAnOutage(t *testing.T) {
	l, how := failing(t, Options{})
	for range 3 {
		if _, err := l.AppendDenial(denied("alpha", "a")); err != nil {
			t.Fatal(err)
		}
	}
	*how = failures["error"]
	l.tick()
	if _, err := l.AppendDenial(denied("alpha", "a")); !errors.Is(err, fault.AuditUnavailable) {
		t.Errorf("got %v", err)
	}
	*how = nil
	l.tick()
	_ = l.Close()
	count := 0
	for _, r := range readAll(t, l.dir) {
		count += r.Count
	}
	if count != 3 {
		t.Errorf("%d merged denials, want 3", count)
	}
}

// What a caller tried is not hidden behind a denial of something milder, and is
// in the log however much there is of it.
func TestDenialsOfOtherOperationsAreNotMerged(t *testing.T) {
	l := openLog(t, t.TempDir(), signed(Options{}))
	for _, operation := range []string{"unknown", "withdraw", "unknown"} {
		r := denied("alpha", "a")
		r.Operation = operation
		if operation == "withdraw" {
			r.Effects = []Effect{{Operation: operation, Address: strings.Repeat("x", MaxLine)}}
		}
		if _, err := l.AppendDenial(r); err != nil {
			t.Fatal(err)
		}
	}
	_ = l.Close()
	var got []string
	for _, r := range readAll(t, l.dir) {
		got = append(got, r.Operation)
	}
	if want := []string{"unknown", "withdraw", "unknown"}; !slices.Equal(got, want) {
		t.Errorf("the log has %v, want %v", got, want)
	}
}

// Noise of one kind doesn't hide what else was tried, and doesn't fill the disk.
func TestNoiseHidesNoProbe(t *testing.T) {
	l := openLog(t, t.TempDir(), signed(Options{}))
	deny := func(message string) {
		t.Helper()
		r := denied("alpha", "")
		r.Reason, r.Message = "BAD_REQUEST", message
		if _, err := l.AppendDenial(r); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		deny("noise")
	}
	deny("a probe")
	for i := range 1000 {
		deny(fmt.Sprint("noise ", i))
	}
	_ = l.Close()
	all := readAll(t, l.dir)
	probes, last := 0, all[len(all)-1]
	for _, r := range all {
		if r.Message == "a probe" {
			probes++
		}
	}
	if probes != 1 || len(all) > 2*maxDistinct {
		t.Errorf("%d lines, %d of the probe", len(all), probes)
	}
	if last.Count == 0 {
		t.Errorf("the last line is %+v", last)
	}
}
