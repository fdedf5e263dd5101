package audit

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// paths are those of the records in text.
func paths(t *testing.T, text string) (paths []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		r, err := ParseRecord([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		paths = append(paths, r.Path)
	}
	return paths
}

func TestTail(t *testing.T) {
	dir := threeSegments(t)
	write(t, dir, "00000003.jsonl", append(read(t, dir, "00000003.jsonl"), `{"id":9,"half`...))
	for n, want := range map[int]string{
		0: "[]", 1: "[/8]", 2: "[/7 /8]", 3: "[/6 /7 /8]", 4: "[/5 /6 /7 /8]",
		9: "[/0 /1 /2 /3 /4 /5 /6 /7 /8]", 100: "[/0 /1 /2 /3 /4 /5 /6 /7 /8]",
	} {
		var text strings.Builder
		if err := Tail(t.Context(), dir, n, false, &text); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(paths(t, text.String())); got != want {
			t.Errorf("tail %d: %s, want %s", n, got, want)
		}
	}
}

func TestTailFollowsThroughSegments(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, signed(Options{SegmentSize: 1500}))
	mustAppend(t, l, "/before")
	mustAppend(t, l, "/last")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reader, writer := io.Pipe()
	var done sync.WaitGroup
	done.Go(func() {
		if err := Tail(ctx, dir, 1, true, writer); err != nil {
			t.Error(err)
		}
		_ = writer.Close()
	})
	done.Go(func() {
		for i := range 10 {
			mustAppend(t, l, fmt.Sprintf("/%d", i))
			time.Sleep(pollEvery / 4)
		}
	})
	lines := newLineReader(reader)
	for _, want := range []string{"/last", "/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9"} {
		line, err := lines.next()
		if err != nil {
			t.Fatal(err)
		}
		if r, err := ParseRecord(line); err != nil || r.Path != want {
			t.Fatalf("got %s (%v), want %s", line, err, want)
		}
	}
	cancel()
	done.Wait()
}
