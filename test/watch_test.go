//go:build integration

package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/daemontest"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// files are the config of a daemon as an operator, an editor or an orchestrator
// changes it.
type files struct {
	*testing.T
	daemon *daemontest.Daemon
	dir    string // holds the folder etc of the config, and what is to take its place
}

// newFiles makes a folder for a config. It is below the daemon's own, as an operator's is
// below /etc: by Landlock a running daemon may not read what comes in the place of a
// folder elsewhere.
func newFiles(t *testing.T, d *daemontest.Daemon) *files {
	t.Helper()
	dir, err := os.MkdirTemp(d.Run, "files")
	if err != nil {
		t.Fatal(err)
	}
	return &files{T: t, daemon: d, dir: dir}
}

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

func (f *files) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *files) write(name, text string) {
	f.Helper()
	f.must(os.MkdirAll(filepath.Dir(f.path(name)), 0o755))
	f.must(os.WriteFile(f.path(name), []byte(text), 0o600))
}

func (f *files) rename(from, to string) { f.Helper(); f.must(os.Rename(f.path(from), f.path(to))) }
func (f *files) remove(name string)     { f.Helper(); f.must(os.RemoveAll(f.path(name))) }
func (f *files) link(target, name string) {
	f.Helper()
	f.must(os.Symlink(target, f.path(name)))
}

// mount puts something in a file's or a folder's place until unmount.
func (f *files) mount(source, kind, name string, flags uintptr) {
	f.Helper()
	if err := syscall.Mount(source, f.path(name), kind, flags, ""); err != nil {
		f.Fatalf("this test mounts over the config and needs root: %v", err)
	}
	f.Cleanup(func() { _ = syscall.Unmount(f.path(name), 0) }) // where the test ended before
}

func (f *files) unmount(name string) { f.Helper(); f.must(syscall.Unmount(f.path(name), 0)) }

// main is a whole config: the key okx, which is in use, and others.
func (f *files) main(others ...string) string {
	return f.daemon.Text(fmt.Sprintf("[keys.okx]\nvenue = \"okx\"\nenvironment = \"testnet\"\nprobe = \"off\"\n"+
		"[roles.all]\nkeys = [\"okx\"]\nallow = [\"read\"]\nrelease = \"bound\"\n[callers.me]\nuid = %d\nroles = [\"all\"]\n", os.Getuid()) + keys(others...))
}

// keys is a part of a config.
func keys(names ...string) (text string) {
	for _, name := range names {
		text += fmt.Sprintf("[keys.%s]\nvenue = \"okx\"\nenvironment = \"testnet\"\n", name)
	}
	return text
}

// force waits until just these keys besides okx are in force, and the last edit is good or refused.
func (f *files) force(good bool, names ...string) {
	f.Helper()
	admin, err := client.DialAdmin(f.daemon.Run)
	f.must(err)
	defer func() { _ = admin.Close() }()
	eventually(f.T, fmt.Sprintf("%q in force", names), func() bool {
		status, err := admin.Status(f.Context(), &pb.StatusRequest{})
		f.must(err)
		list, err := admin.ListKeys(f.Context(), &pb.AdminListKeysRequest{})
		f.must(err)
		var got []string
		for _, k := range list.GetKeys() {
			if k.GetName() != "okx" && k.GetState() != "unconfigured" {
				got = append(got, k.GetName())
			}
		}
		return status.GetConfig().GetOk() == good && slices.Equal(got, names)
	})
}

// watched waits until the files are watched: what changes before, the daemon looks for
// once more after its start.
func (f *files) watched() {
	f.Helper()
	text, err := os.ReadFile(f.daemon.Config)
	f.must(err)
	f.must(os.WriteFile(f.daemon.Config, append(text, keys("first")...), 0o600))
	f.force(true, "a", "first")
	f.must(os.WriteFile(f.daemon.Config, text, 0o600))
	f.force(true, "a")
}

// change is one way in which files change. What is in force before is the key a.
type change struct {
	before func(*files)
	edit   func(*files) // ends with force
	// loads is how many configs come into force at most: more than one where the edit
	// has states on its way that are good ones too.
	loads int
}

func plain(f *files) { f.write("etc/sealsign.toml", f.main("a")) }

func fragment(f *files) {
	f.write("etc/sealsign.toml", f.main())
	f.write("etc/conf.d/keys.toml", keys("a"))
}

// configMap is how Kubernetes lays files out.
func configMap(f *files) {
	f.write("etc/..1/sealsign.toml", f.main("a"))
	f.link("..1", "etc/..data")
	f.link("..data/sealsign.toml", "etc/sealsign.toml")
}

var changes = map[string]change{
	"renamed over": {plain, func(f *files) {
		f.write("etc/new", f.main("b"))
		f.rename("etc/new", "etc/sealsign.toml")
		f.force(true, "b")
	}, 1},
	"written in place": {plain, func(f *files) {
		f.write("etc/sealsign.toml", f.main("b"))
		f.force(true, "b")
	}, 1},
	"truncated, seen, and written": {plain, func(f *files) {
		f.must(os.Truncate(f.path("etc/sealsign.toml"), 0))
		f.force(false, "a")
		f.write("etc/sealsign.toml", f.main("b"))
		f.force(true, "b")
	}, 1},
	"of conf.d, truncated, seen, and written": {fragment, func(f *files) {
		f.must(os.Truncate(f.path("etc/conf.d/keys.toml"), 0))
		f.force(false, "a")
		f.write("etc/conf.d/keys.toml", keys("b"))
		f.force(true, "b")
	}, 1},
	"a ConfigMap swapped": {configMap, func(f *files) {
		f.write("etc/..2/sealsign.toml", f.main("b"))
		f.link("..2", "etc/..data_tmp")
		f.rename("etc/..data_tmp", "etc/..data")
		f.remove("etc/..1")
		f.force(true, "b")
	}, 1},
	"its folder replaced": {plain, func(f *files) {
		f.write("etc.new/sealsign.toml", f.main("b"))
		f.rename("etc", "etc.old")
		f.rename("etc.new", "etc")
		f.force(true, "b")
		f.write("etc.old/sealsign.toml", f.main("c")) // is nobody's any more
		f.write("etc/sealsign.toml", f.main("d"))
		f.force(true, "d")
	}, 2},
	"conf.d appears": {plain, func(f *files) {
		f.write("etc/conf.d/keys.toml", keys("b"))
		f.force(true, "a", "b")
	}, 1},
	"conf.d appears, and is filled later": {plain, func(f *files) {
		f.must(os.Mkdir(f.path("etc/conf.d"), 0o755))
		f.write("etc/sealsign.toml", f.main("c")) // so that the daemon has seen both
		f.force(true, "c")
		f.write("etc/conf.d/keys.toml", keys("b"))
		f.force(true, "b", "c")
	}, 2},
	"conf.d goes": {fragment, func(f *files) {
		f.remove("etc/conf.d")
		f.force(true)
	}, 1},
	"files of conf.d appear and go": {fragment, func(f *files) {
		f.write("etc/conf.d/more.toml", keys("b"))
		f.force(true, "a", "b")
		f.remove("etc/conf.d/keys.toml")
		f.force(true, "b")
		f.rename("etc/conf.d/more.toml", "etc/conf.d/more.toml.off")
		f.force(true)
	}, 3},
	"a mount hides it and goes again": {plain, func(f *files) {
		f.mount("none", "tmpfs", "etc", 0)
		f.force(false, "a")
		f.unmount("etc")
		f.force(true, "a")
	}, 0},
	"another is mounted over it": {plain, func(f *files) {
		f.write("other.toml", f.main("b"))
		f.mount(f.path("other.toml"), "", "etc/sealsign.toml", syscall.MS_BIND)
		f.force(true, "b")
		f.unmount("etc/sealsign.toml")
		f.force(true, "a")
	}, 2},
	"a burst": {plain, func(f *files) {
		for i := range 200 {
			f.write("etc/new", f.main(fmt.Sprintf("b%d", i)))
			f.rename("etc/new", "etc/sealsign.toml")
		}
		f.force(true, "b199")
	}, 10}, // one, unless the machine stops in the middle of it
	"removed": {plain, func(f *files) {
		f.remove("etc/sealsign.toml")
		f.force(false, "a")
		if text := f.daemon.Must("status"); !strings.Contains(text, "can't be read") {
			f.Errorf("status doesn't say what is wrong:\n%s", text)
		}
	}, 0},
	"removed and brought back": {plain, func(f *files) {
		f.rename("etc/sealsign.toml", "away")
		f.force(false, "a")
		f.rename("away", "etc/sealsign.toml")
		f.force(true, "a")
	}, 0},
	"removed with its folder, and made anew": {plain, func(f *files) {
		f.remove("etc")
		f.force(false, "a")
		f.write("etc/sealsign.toml", f.main("b"))
		f.force(true, "b")
	}, 1},
}

// However the files change, what they say in the end comes into force and nothing
// else does, while no request of a key that stays is lost.
func TestEveryWayInWhichFilesChange(t *testing.T) {
	d := daemontest.Start(t, "")
	f := newFiles(t, d)
	d.Stop()
	d.Config = f.path("etc/sealsign.toml")
	plain(f)
	d.Restart()
	d.Import("okx", d.Venues.Issue("okx", "hmac-sha256"))
	for name, c := range changes {
		t.Run(name, func(t *testing.T) {
			d.Stop()
			f := newFiles(t, d)
			d.Config = f.path("etc/sealsign.toml")
			c.before(f)
			d.Restart()
			f.watched()
			before := strings.Count(d.Log(), `msg="config loaded"`)
			ctx, stop := context.WithCancel(t.Context())
			var load sync.WaitGroup
			var done atomic.Int64
			load.Go(func() { releases(ctx, t, d, &done) })
			c.edit(f)
			stop()
			load.Wait()
			d.Stop()
			if loads := strings.Count(d.Log(), `msg="config loaded"`) - before; loads > c.loads {
				t.Errorf("%d configs came into force, want %d at most", loads, c.loads)
			}
			if done.Load() == 0 {
				t.Error("there was no load")
			}
		})
	}
}
