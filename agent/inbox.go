package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/agent/wrap"
	"github.com/sealsign/sealsign/internal/fault"
)

const (
	inboxName   = "inbox"
	refusedName = "refused"

	inboxQuiet = 200 * time.Millisecond // since its last change, until a file that looks whole is read
	inboxCut   = 10 * time.Second       // the same for one that looks cut short: it may be written yet
	inboxPoll  = 2 * time.Second        // for what the kernel doesn't tell
	inboxRetry = 5 * time.Second        // the first pause where the TPM or the disk is gone
	inboxPause = 5 * time.Minute        // the longest
)

// inbox is the folder state_dir/inbox: what root or a tool of root's puts there is
// imported as pending versions. A file that was taken is deleted, one that was refused
// is moved to inbox/refused with a .reason beside it: neither is looked at again.
type inbox struct {
	agent *Agent
	dir   string
	seen  map[string]*parcel
}

// parcel is a file of the inbox as it was seen last.
type parcel struct {
	stamp  string
	since  time.Time // that it is so
	due    time.Time // when to try again; zero: at once
	pause  time.Duration
	failed bool // it can't be moved away, and is left alone until it changes
}

// watchInbox takes what comes by the inbox until the agent stops.
func (a *Agent) watchInbox(stateDir string) {
	i := &inbox{agent: a, dir: filepath.Join(stateDir, inboxName), seen: make(map[string]*parcel)}
	if !i.opened() {
		return
	}
	var events <-chan fsnotify.Event // none where the kernel has no watches left
	if kernel, err := fsnotify.NewWatcher(); err == nil {
		defer func() { _ = kernel.Close() }()
		if kernel.Add(i.dir) == nil {
			events = kernel.Events
		}
	}
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-events:
		case <-time.After(i.look()):
		}
	}
}

// opened tries to open the inbox until it can, and tells whether it could before the agent
// stopped.
func (i *inbox) opened() bool {
	for told := false; ; told = true {
		err := i.open()
		if err == nil {
			return true
		}
		if !told {
			i.agent.logger.Error("nothing is taken by the inbox until it can be opened", "error", err)
		}
		select {
		case <-i.agent.ctx.Done():
			return false
		case <-time.After(inboxRetry):
		}
	}
}

// open makes the folders, for the daemon's user and root alone.
func (i *inbox) open() error {
	for _, dir := range []string{i.dir, i.refused()} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		info, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is no folder", dir)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (i *inbox) refused() string { return filepath.Join(i.dir, refusedName) }

// look takes the files that are ready, and tells when to look again.
func (i *inbox) look() time.Duration {
	entries, err := os.ReadDir(i.dir)
	if err != nil {
		return inboxPoll // the disk's trouble is told elsewhere
	}
	there := make(map[string]bool)
	next := inboxPoll
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") { // a hidden one is yet to be renamed
			continue
		}
		there[name] = true
		if wait := i.consider(name); wait > 0 {
			next = min(next, wait)
		}
	}
	for name := range i.seen {
		if !there[name] {
			delete(i.seen, name)
		}
	}
	return next
}

// consider takes a file, or tells how long to wait before it is looked at again.
func (i *inbox) consider(name string) (wait time.Duration) {
	info, err := os.Lstat(filepath.Join(i.dir, name))
	if err != nil {
		return 0
	}
	now := time.Now()
	stamp := fmt.Sprint(info.Size(), info.ModTime().UnixNano(), info.Mode())
	p := i.seen[name]
	if p == nil || p.stamp != stamp {
		i.seen[name] = &parcel{stamp: stamp, since: now}
		return inboxQuiet
	}
	quiet := now.Sub(p.since)
	switch {
	case p.failed:
		return 0
	case quiet < inboxQuiet:
		return inboxQuiet - quiet
	case now.Before(p.due):
		return p.due.Sub(now)
	}
	blob, err := readParcel(filepath.Join(i.dir, name))
	if err == nil && !wrap.LooksWhole(blob) && quiet < inboxCut {
		return inboxQuiet
	}
	if err == nil {
		err = i.deliver(blob)
	}
	return i.settle(name, p, err)
}

// readParcel reads a regular file of a blob's size at most, and one byte more of a
// larger one. It waits for nobody.
func readParcel(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, wrap.Refuse("the file can't be read: %v", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, wrap.Refuse("it is no regular file")
	}
	blob, err := io.ReadAll(io.LimitReader(file, wrap.MaxBlob+1))
	if err != nil {
		return nil, wrap.Refuse("the file can't be read: %v", err)
	}
	return blob, nil
}

func (i *inbox) deliver(blob []byte) error {
	a := i.agent
	record := a.adminRecord(nil, opImportWrapped, "", nil)
	record.Rule = inboxName
	key, version, err := a.importWrapped(a.ctx, record, blob, true)
	if version != 0 {
		a.logger.Info("a credential came by the inbox", "key", key, "version", version,
			"next", fmt.Sprintf("version = %d under [keys.%s] makes it sign", version, key))
		return nil // that it doesn't sign yet is told by the key's state
	}
	return err
}

// settle puts a file away whose fate is known.
func (i *inbox) settle(name string, p *parcel, err error) (wait time.Duration) {
	path := filepath.Join(i.dir, name)
	log := i.agent.logger
	switch {
	case err == nil:
		err = os.Remove(path)
	case passing(err):
		p.pause = min(max(2*p.pause, inboxRetry), inboxPause)
		p.due = time.Now().Add(p.pause)
		log.Warn("a file of the inbox waits", "file", name, "error", err)
		return p.pause
	default:
		log.Warn("a file of the inbox is refused", "file", name, "error", err)
		err = i.refuse(name, fault.From(err))
	}
	if err != nil {
		p.failed = true
		log.Error("a file of the inbox can't be put away", "file", name, "error", err)
	}
	return 0
}

// passing: it says nothing of the file, and goes away by itself.
func passing(err error) bool {
	reason := fault.From(err).Reason
	return reason.Class() == fault.Unavailable && reason != fault.ClockSkew
}

// refuse moves a file away, with the reason beside it, which is whole before the file
// is gone.
func (i *inbox) refuse(name string, why *fault.Error) error {
	to := filepath.Join(i.refused(), name)
	text := fmt.Sprintf("%s: %s\n%s\n", why.Reason, why.Message, cmp.Or(why.Hint, "sealsign audit tail"))
	if err := os.WriteFile(to+".reason.new", []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Rename(to+".reason.new", to+".reason"); err != nil {
		return err
	}
	return os.Rename(filepath.Join(i.dir, name), to)
}
