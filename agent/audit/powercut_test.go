package audit

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// mains keeps, for each operation of a log, what a disk could hold if the power went just then:
// of each file what was synced, and of the rest as much as suits it; of files whose folder was not
// synced, nothing.
type mains struct {
	mu      sync.Mutex
	dir     string
	synced  map[string]int
	named   map[string]bool
	durable map[uint64]string // records that must be there
	cuts    []powercut
}

type powercut struct {
	files   map[string][]byte
	durable map[uint64]string
}

// leftovers are what may become of a file from the offset on that was synced. Disks write whole sectors; here
// they are as small as a hash.
var leftovers = []func(data []byte, synced int) []byte{
	func(data []byte, synced int) []byte { return data[:synced] },
	func(data []byte, synced int) []byte { return data[:half(data, synced)] },
	func(data []byte, synced int) []byte { clear(data[synced:]); return data },
	func(data []byte, synced int) []byte { clear(data[synced:half(data, synced)]); return data },
	func(data []byte, _ int) []byte { return data },
}

func half(data []byte, synced int) int {
	return max((synced+len(data))/2/tlog.HashSize*tlog.HashSize, synced)
}

func (m *mains) ask(op, path string, n int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut(leftovers[len(m.cuts)%len(leftovers)])
	switch op {
	case "sync":
		if info, err := os.Stat(path); err == nil {
			m.synced[path] = int(info.Size())
		}
	case "rename":
		m.synced[path] = m.synced[path+".new"]
	case "syncdir":
		names, _ := filepath.Glob(m.dir + "/*")
		for _, name := range names {
			m.named[name] = true
		}
	}
	return n, nil
}

func (m *mains) cut(leftover func([]byte, int) []byte) {
	c := powercut{map[string][]byte{}, maps.Clone(m.durable)}
	for path := range m.named {
		if filepath.Base(path) == reserveName {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		c.files[filepath.Base(path)] = leftover(data, min(m.synced[path], len(data)))
	}
	m.cuts = append(m.cuts, c)
}

func TestPowerCutAtEveryOperation(t *testing.T) {
	for _, mode := range []string{SyncGroup, SyncInterval} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			m := &mains{dir: dir, synced: map[string]int{}, named: map[string]bool{}, durable: map[uint64]string{}}
			l := openLog(t, dir, signed(Options{Sync: mode, SegmentSize: 2500, Checkpoint: time.Hour, Fault: m.ask}))
			acked := map[uint64]string{}
			for i := range 16 {
				path := fmt.Sprintf("/%d", i)
				acked[mustAppend(t, l, path)] = path
				if i%5 == 4 {
					l.tick()
				}
				if i%6 == 5 {
					if _, err := l.Checkpoint(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := l.hashes.flush(); err != nil { // they lag, and aren't synced with the records
					t.Fatal(err)
				}
				m.mu.Lock()
				if mode == SyncGroup || i%5 == 4 || i%6 == 5 {
					m.durable = maps.Clone(acked)
				}
				m.mu.Unlock()
			}
			_ = l.Close()
			if len(m.cuts) < 30 {
				t.Fatalf("only %d operations", len(m.cuts))
			}
			for i, c := range m.cuts {
				c.check(t)
				if t.Failed() {
					t.Fatalf("the power was cut before operation %d of %d", i+1, len(m.cuts))
				}
			}
		})
	}
}

// check opens what the disk holds, goes on with it, and looks for the records that must be there.
func (c *powercut) check(t *testing.T) {
	dir := t.TempDir()
	for name, data := range c.files {
		write(t, dir, name, data)
	}
	l := openLog(t, dir, signed(Options{}))
	mustAppend(t, l, "/after")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	report := verified(t, dir)
	if !report.OK() {
		t.Fatalf("%+v", report)
	}
	got := map[uint64]string{}
	for _, r := range readAll(t, dir) {
		got[r.ID] = r.Path
	}
	for id, path := range c.durable {
		if got[id] != path {
			t.Errorf("record %d is of %q, synced was %s", id, got[id], path)
		}
	}
}
