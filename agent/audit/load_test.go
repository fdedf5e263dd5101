package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

func TestTornTailIsSetAside(t *testing.T) {
	line := string(appendLine(nil, &Record{ID: 9, Time: time.Unix(0, 0), Kind: KindDecision})) + "\n"
	tests := []struct {
		name, file, tail string
	}{
		{"half a line", "00000003.jsonl", line[:40]},
		{"all but the newline", "00000003.jsonl", line[:len(line)-1]},
		{"zeros", "00000003.jsonl", strings.Repeat("\x00", 5000)},
		{"zeros in a line and whole lines behind", "00000003.jsonl", line[:20] + "\x00\x00" + line[22:] + line},
		{"a wrong number", "00000003.jsonl", strings.Replace(line, `"id":9`, `"id":8`, 1)},
		{"a new segment with half a line", "00000004.jsonl", line[:40]},
		{"a new segment of zeros", "00000004.jsonl", strings.Repeat("\x00", 100)},
		{"half a checkpoint", checkpointsName, "sealsign.example/test\n9\n"},
		{"a checkpoint without its signature", checkpointsName, "sealsign.example/test\n9\nroot\ntime\n\n"},
		{"a checkpoint with a hole in its signature", checkpointsName, "sealsign.example/test\n9\n" + strings.Repeat("A", 43) + "=\ntime 2026-11-23T12:00:00Z\n\n— x \x00\x00\n\n"},
		{"a checkpoint without its last newline", checkpointsName, "sealsign.example/test\n9\nroot\ntime\n\n— x y\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := threeSegments(t)
			before, _ := os.ReadFile(filepath.Join(dir, test.file))
			write(t, dir, test.file, append(bytes.Clone(before), test.tail...))
			l := openLog(t, dir, signed(Options{}))
			if id := mustAppend(t, l, "/new"); id != 10 { // 9 tells of the torn tail
				t.Errorf("id %d", id)
			}
			_ = l.Close()
			report := mustVerify(t, dir, 11)
			if len(report.Torn) != 1 || !strings.HasPrefix(report.Torn[0], test.file) {
				t.Fatalf("set aside: %v", report.Torn)
			}
			if torn := read(t, dir, report.Torn[0]); string(torn) != test.tail {
				t.Errorf("%q is set aside, %q was torn", torn, test.tail)
			}
			told := readAll(t, dir)[9]
			if told.Kind != KindRecovery || !strings.Contains(told.Message, report.Torn[0]) {
				t.Errorf("record 9 is %+v", told)
			}
		})
	}
}

// A tail that is cut back to the last checkpoint can't be told from records that a
// crash of the host took; the log goes on and says what is missing.
func TestRecordsOnlyHashesKnowAreTold(t *testing.T) {
	dir := t.TempDir()
	opts := signed(Options{Sync: SyncInterval, Sign: nil})
	opts.Sign = nil
	l := openLog(t, dir, opts)
	for range 9 {
		mustAppend(t, l, "/x")
	}
	_ = l.Close()
	cutLines(t, dir, "00000001.jsonl", 3)
	l = openLog(t, dir, opts)
	_ = l.Close()
	mustVerify(t, dir, 7)
	if told := messages(t, dir); !strings.Contains(told, "records from number 6 to 8 are gone") {
		t.Errorf("told: %q", told)
	}
}

func TestDiskGoneAtStart(t *testing.T) {
	dir := t.TempDir()
	gone, clock := true, time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	opts := signed(Options{Now: func() time.Time { return clock }, Fault: func(_, _ string, n int) (int, error) {
		if gone {
			return 0, errInjected
		}
		return n, nil
	}})
	l, err := Open(dir, opts)
	defer func() { _ = l.Close() }()
	if !errors.Is(err, fault.AuditUnavailable) {
		t.Fatal(err)
	}
	if _, err := l.Append(sample(), true); !errors.Is(err, fault.AuditUnavailable) {
		t.Fatal(err)
	}
	if s := l.Status(); s.Problem == nil {
		t.Errorf("%+v", s)
	}
	gone, clock = false, clock.Add(time.Minute)
	l.tick() // recovers without a request
	if err := l.Healthy(); err != nil {
		t.Error(err)
	}
	mustAppend(t, l, "/x")
	_ = l.Close()
	mustVerify(t, dir, 2)
}
