package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How changes are noticed. An edit is usually several events: editors write a
// new file and rename it, unpackers write many.
const (
	quietFor  = 100 * time.Millisecond // after the last event, the edit is over
	atMost    = 500 * time.Millisecond // after the first, it is looked at all the same
	pollEvery = 2 * time.Second        // for what the kernel doesn't tell: mounts, network file systems
	pollAlone = 500 * time.Millisecond // where the kernel tells nothing
)

// Watch calls changed when the configuration at path reads differently than
// before: within a second of an edit, one call at a time, until ctx is done. What
// a ca_file holds is not watched. Watch returns once it has seen the files as
// they are, so that a Load after it misses nothing.
func Watch(ctx context.Context, path string, changed func()) {
	watch(ctx, &watcher{path: path, poll: pollEvery}, changed)
}

func watch(ctx context.Context, w *watcher, changed func()) {
	if abs, err := filepath.Abs(w.path); err == nil {
		w.path = abs
	}
	w.arm()
	seen := fingerprint(w.path)
	go func() {
		defer w.disarm()
		last, again := seen, false
		for w.wait(ctx, again) {
			w.arm()
			now := fingerprint(w.path)
			// One look may find the middle of an edit, which the kernel hasn't told of
			// yet. It counts once the next has found it too, or has found another.
			again = now != seen && now != last && !again
			last = now
			if now != seen && !again {
				seen = now
				changed()
			}
		}
	}()
}

// fingerprint tells any two states of the files apart, the unreadable ones too.
func fingerprint(path string) string {
	var problems Problems
	return digest(readFiles(path, &problems)) + problems.Error()
}

// watcher watches the folders that decide what the files are. It is armed anew
// after each edit, since that may have changed which folders these are.
type watcher struct {
	path   string
	poll   time.Duration     // pollEvery
	kernel *fsnotify.Watcher // nil where the kernel has no watches left
	names  map[string]bool   // paths that matter, and folders of which all names do with a last "/"
}

func (w *watcher) arm() {
	w.disarm()
	w.names = make(map[string]bool)
	w.trace(w.path)
	folder := filepath.Join(filepath.Dir(w.path), "conf.d")
	w.names[w.trace(folder)+"/"] = true
	var unread Problems // reported by Load
	for _, f := range fragments(w.path, &unread) {
		w.trace(f)
	}
	kernel, err := fsnotify.NewWatcher()
	if err != nil {
		return
	}
	w.kernel = kernel
	for name := range w.names {
		_ = kernel.Add(filepath.Dir(name)) // a folder that isn't there is noticed in the one around it
	}
}

func (w *watcher) disarm() {
	if w.kernel != nil {
		_ = w.kernel.Close()
		w.kernel = nil
	}
}

// trace notes every name on the way to path, links and what they lead to
// included, and returns where the way ends. A change to any of the names can make
// path another file.
func (w *watcher) trace(path string) string {
	const maxLinks = 40 // as many as the kernel follows: path_resolution(7)
	at, links := "/", 0
	left := strings.Split(path, "/")
	for len(left) > 0 {
		name := left[0]
		left = left[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		w.names[next] = true
		target, err := os.Readlink(next)
		if err != nil || links == maxLinks {
			at = next
			continue
		}
		links++
		if filepath.IsAbs(target) {
			at = "/"
		}
		left = append(strings.Split(target, "/"), left...)
	}
	return at
}

// wait returns true when it is time to look at the files, again: soon, and false when
// ctx is done.
func (w *watcher) wait(ctx context.Context, again bool) bool {
	var events chan fsnotify.Event
	var errs chan error
	every := pollAlone
	if w.kernel != nil {
		events, errs, every = w.kernel.Events, w.kernel.Errors, w.poll
	}
	if again {
		every = quietFor
	}
	poll := time.After(every)
	var quiet, late <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case event := <-events:
			if name := filepath.Clean(event.Name); !w.names[name] && !w.names[filepath.Dir(name)+"/"] {
				continue
			}
		case <-errs: //nolint:errcheck // whatever it is: events may be lost, so it is time to look
		case <-poll:
			if quiet == nil {
				return true
			}
			continue
		case <-quiet:
			return true
		case <-late:
			return true
		}
		quiet = time.After(quietFor)
		if late == nil {
			late = time.After(atMost)
		}
	}
}
