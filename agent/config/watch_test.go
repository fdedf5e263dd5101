package config

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// site is a folder with a configuration, and what the watcher has said of it.
type site struct {
	t       *testing.T
	name    string // of the case
	dir     string
	changes chan struct{}
}

func (s site) path(name string) string { return filepath.Join(s.dir, name) }

func (s site) must(err error) {
	if err != nil {
		s.t.Errorf("%s: %v", s.name, err)
	}
}

func (s site) write(name, content string) {
	s.must(os.MkdirAll(filepath.Dir(s.path(name)), 0o755))
	s.must(os.WriteFile(s.path(name), []byte(content), 0o644))
}

func (s site) rename(from, to string) { s.must(os.Rename(s.path(from), s.path(to))) }
func (s site) remove(name string)     { s.must(os.RemoveAll(s.path(name))) }

// link makes a link; target is relative to it.
func (s site) link(target, name string) { s.must(os.Symlink(target, s.path(name))) }

// never is a poll that no test waits for: what is noticed was told by the kernel.
const never = time.Hour

// patience is what a busy machine may take.
const patience = 30 * time.Second

// noticed fails unless a change is told.
func (s site) noticed() {
	select {
	case <-s.changes:
	case <-time.After(patience):
		s.t.Errorf("%s: not noticed", s.name)
	}
}

// quiet fails if a change is told that wasn't one. It outlasts a poll.
func (s site) quiet() {
	select {
	case <-s.changes:
		s.t.Errorf("%s: told of a change where there was none", s.name)
	case <-time.After(pollEvery + atMost):
	}
}

func watched(t *testing.T, name string, poll time.Duration, before func(site)) site {
	s := site{t, name, t.TempDir(), make(chan struct{}, 100)}
	before(s)
	w := &watcher{path: s.path("etc/sealsign.toml"), poll: poll}
	watch(t.Context(), w, func() { s.changes <- struct{}{} })
	return s
}

// Most of a case is waiting, so all of a test's run at once.
type watchCase struct{ before, edit func(site) }

func runTogether(t *testing.T, poll time.Duration, cases map[string]watchCase, after func(site)) {
	var wg sync.WaitGroup
	for name, c := range cases {
		s := watched(t, name, poll, c.before)
		wg.Go(func() {
			c.edit(s)
			after(s)
		})
	}
	wg.Wait()
}

func TestWatchSeesEveryWayOfWriting(t *testing.T) {
	configMap := func(s site) { // as Kubernetes lays it out
		s.write("etc/..1/sealsign.toml", "a")
		s.link("..1", "etc/..data")
		s.link("..data/sealsign.toml", "etc/sealsign.toml")
	}
	plain := func(s site) { s.write("etc/sealsign.toml", "a") }
	withFragment := func(s site) { plain(s); s.write("etc/conf.d/a.toml", "a") }

	runTogether(t, never, map[string]watchCase{
		"written in place":         {plain, func(s site) { s.write("etc/sealsign.toml", "b") }},
		"renamed over":             {plain, func(s site) { s.write("etc/new~", "b"); s.rename("etc/new~", "etc/sealsign.toml") }},
		"renamed from elsewhere":   {plain, func(s site) { s.write("new", "b"); s.rename("new", "etc/sealsign.toml") }},
		"removed":                  {plain, func(s site) { s.remove("etc/sealsign.toml") }},
		"there at last":            {func(s site) { s.write("etc/x", "") }, plain},
		"its folder there at last": {func(site) {}, plain},
		"truncated, then written": {plain, func(s site) {
			s.must(os.Truncate(s.path("etc/sealsign.toml"), 0))
			time.Sleep(quietFor / 2)
			s.write("etc/sealsign.toml", "b")
		}},
		"kept aside by the editor": {plain, func(s site) {
			s.rename("etc/sealsign.toml", "etc/sealsign.toml~")
			s.write("etc/sealsign.toml", "b")
		}},
		"a ConfigMap swapped": {configMap, func(s site) {
			s.write("etc/..2/sealsign.toml", "b")
			s.link("..2", "etc/..data_tmp")
			s.rename("etc/..data_tmp", "etc/..data")
			s.remove("etc/..1")
		}},
		"behind a link, written in place": {func(s site) {
			s.write("real/sealsign.toml", "a")
			s.write("etc/x", "")
			s.link("../real/sealsign.toml", "etc/sealsign.toml")
		}, func(s site) { s.write("real/sealsign.toml", "b") }},
		"its folder a link that is swapped": {func(s site) {
			s.write("etc1/sealsign.toml", "a")
			s.link("etc1", "etc")
		}, func(s site) {
			s.write("etc2/sealsign.toml", "b")
			s.link("etc2", "etc_tmp")
			s.rename("etc_tmp", "etc")
		}},
		"its folder replaced": {plain, func(s site) {
			s.write("etc.new/sealsign.toml", "b")
			s.rename("etc", "etc.old")
			s.rename("etc.new", "etc")
		}},
		"conf.d appears": {plain, func(s site) { s.write("etc/conf.d/a.toml", "a") }},
		"conf.d filled late": {plain, func(s site) {
			s.must(os.Mkdir(s.path("etc/conf.d"), 0o755))
			time.Sleep(2 * quietFor)
			s.write("etc/conf.d/a.toml", "a")
		}},
		"conf.d goes": {withFragment, func(s site) { s.remove("etc/conf.d") }},
		"conf.d renamed over": {withFragment, func(s site) {
			s.write("etc/n/a.toml", "b")
			s.rename("etc/conf.d", "etc/o")
			s.rename("etc/n", "etc/conf.d")
		}},
		"a fragment appears":         {withFragment, func(s site) { s.write("etc/conf.d/b.toml", "b") }},
		"a fragment goes":            {withFragment, func(s site) { s.remove("etc/conf.d/a.toml") }},
		"a fragment gets a new name": {withFragment, func(s site) { s.rename("etc/conf.d/a.toml", "etc/conf.d/b.toml") }},
		"a fragment written":         {withFragment, func(s site) { s.write("etc/conf.d/a.toml", "b") }},
		"a fragment behind a link": {func(s site) {
			withFragment(s)
			s.write("real/b.toml", "a")
			s.link("../../real/b.toml", "etc/conf.d/b.toml")
		}, func(s site) { s.write("real/b.toml", "b") }},
	}, site.noticed)
}

func TestWatchIsNotMisled(t *testing.T) {
	before := func(s site) { s.write("etc/sealsign.toml", "a"); s.write("etc/conf.d/x.toml", "") }
	cases := make(map[string]watchCase)
	for name, edit := range map[string]func(site){
		"nothing":                    func(site) {},
		"written anew, the same":     func(s site) { s.write("etc/new", "a"); s.rename("etc/new", "etc/sealsign.toml") },
		"an editor's file beside it": func(s site) { s.write("etc/.sealsign.toml.swp", "b"); s.write("etc/4913", "") },
		"another file in conf.d":     func(s site) { s.write("etc/conf.d/README", "b"); s.write("etc/conf.d/.a.toml", "b") },
		"a file beside its folder":   func(s site) { s.write("x", "b") },
	} {
		cases[name] = watchCase{before, edit}
	}
	runTogether(t, pollEvery, cases, site.quiet)
}

func TestWatchSettlesABurst(t *testing.T) {
	s := watched(t, t.Name(), never, func(s site) { s.write("etc/sealsign.toml", "a") })
	started := time.Now()
	pauses := 0 // on a busy machine it may look like several bursts
	for i, last := 0, started; time.Since(started) < 3*quietFor; i, last = i+1, time.Now() {
		s.write("etc/sealsign.toml", fmt.Sprint(i))
		time.Sleep(quietFor / 10)
		if time.Since(last) > quietFor/2 {
			pauses++
		}
	}
	s.noticed()
	time.Sleep(2 * atMost)
	if n := len(s.changes); n > 2+pauses {
		t.Errorf("told of %d changes, with %d pauses in the burst", n, pauses)
	}
}

// A writer that never pauses doesn't keep the change from being seen.
func TestWatchDoesNotWaitForever(t *testing.T) {
	s := watched(t, t.Name(), never, func(s site) { s.write("etc/sealsign.toml", "a") })
	started := time.Now()
	for i := 0; len(s.changes) == 0; i++ {
		s.write("etc/sealsign.toml", fmt.Sprint(i))
		time.Sleep(quietFor / 10)
		if time.Since(started) > patience {
			t.Fatal("not noticed")
		}
	}
}

// What the poll happens to find in the middle of an edit isn't the edit's end.
func TestWatchWaitsForAnEditThatItPolled(t *testing.T) {
	s := site{t: t, name: t.Name(), dir: t.TempDir(), changes: make(chan struct{}, 100)}
	s.write("etc/sealsign.toml", "a")
	for range 20 { // the poll comes at some moment of the edit
		ctx, stop := context.WithCancel(t.Context())
		var early atomic.Bool
		watch(ctx, &watcher{path: s.path("etc/sealsign.toml"), poll: quietFor / 100}, func() {
			text, err := os.ReadFile(s.path("etc/sealsign.toml"))
			s.must(err)
			early.Store(early.Load() || len(text) == 0)
			s.changes <- struct{}{}
		})
		began := time.Now()
		s.must(os.Truncate(s.path("etc/sealsign.toml"), 0))
		time.Sleep(quietFor / 2)
		s.write("etc/sealsign.toml", rand.Text())
		took := time.Since(began)
		s.noticed()
		stop()
		if early.Load() && took < quietFor { // on a busy machine it may look like two edits
			t.Fatal("told of a file that is being written")
		}
	}
}

// Where the kernel's queue overflows, the events of an edit are lost, and it is seen all the same.
func TestWatchSeesWhatTheKernelForgot(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	queued, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	s := site{t: t, name: t.Name(), dir: t.TempDir(), changes: make(chan struct{}, 100)}
	s.write("etc/sealsign.toml", "a")
	w := &watcher{path: s.path("etc/sealsign.toml"), poll: never}
	proceed := make(chan struct{})
	watch(t.Context(), w, func() {
		s.changes <- struct{}{}
		<-proceed
	})
	s.write("etc/sealsign.toml", "b")
	s.noticed()
	const taken = 10_000 // more events than fsnotify takes from the kernel ahead
	for range (queued + taken) / 2 {
		s.write("etc/x", "")
		s.remove("etc/x")
	}
	s.write("etc/sealsign.toml", "c")
	close(proceed)
	s.noticed()
}

// Without watches of the kernel's the files are looked at all the same.
func TestWatchPollsAlone(t *testing.T) {
	if w := (&watcher{poll: never}); !w.wait(t.Context(), false) {
		t.Error("not looked at")
	}
}
