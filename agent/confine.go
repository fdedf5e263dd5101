package agent

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/agent/config"
	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

// Reach is what a running agent opens, by its config.
type Reach struct {
	Own      []string // folders that it writes
	Config   []string // folders of the files that the config is read from
	TPM      string   // the device, as the config names it
	Programs bool     // looks at other processes' programs, to tell callers by them
}

// confinement is what the process has been shut in to.
type confinement struct {
	how string
	err error // why it isn't
}

// Confine has restrict shut the process in to what the agent needs: what else a
// defect would open, the kernel refuses. It comes once, when all sockets are open.
// restrict says how, for the log and doctor. Where it fails the agent goes on
// without, since it is one wall of several. Afterwards an edit of the config that
// needs more is refused until a restart.
func (a *Agent) Confine(restrict func(*Reach) (how string, err error)) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	c, reach := new(confinement), reachOf(a.setup.Load().config, a.opts.Config)
	if c.how, c.err = restrict(&reach); c.err != nil {
		a.logger.Warn("the daemon isn't confined", event.Key, event.Confined, "error", c.err)
	} else {
		a.logger.Info("the daemon is confined", event.Key, event.Confined, "by", c.how)
	}
	a.confined.Store(c)
}

func reachOf(c *config.Config, path string) Reach {
	folders := map[string]bool{filepath.Dir(path): true}
	for _, file := range c.Files {
		folders[filepath.Dir(file)] = true
		if target, err := filepath.EvalSymlinks(file); err == nil {
			folders[filepath.Dir(target)] = true
		}
	}
	r := Reach{
		Own:    []string{c.Agent.StateDir, c.Agent.RuntimeDir},
		Config: slices.Sorted(maps.Keys(folders)), TPM: c.TPM.Device,
	}
	for _, caller := range c.Callers {
		r.Programs = r.Programs || caller.Exe+caller.SHA256 != ""
	}
	return r
}

func (a *Agent) isConfined() bool {
	c := a.confined.Load()
	return c != nil && c.err == nil
}

// beyond refuses an edit that needs what the process has shut itself out from.
func (a *Agent) beyond(edited *config.Config) error {
	if !a.isConfined() || !reachOf(edited, a.opts.Config).Programs {
		return nil
	}
	return fault.New(fault.ConfigInvalid, "a running daemon has shut itself out from the programs of other processes, which exe and sha256 look at").
		WithHint("%s, or take that part of the edit back", restart)
}

// shutOut has the refusal of an edit say that the process may not read what the
// operator may: a file in a folder of which the config named none at the start.
func (a *Agent) shutOut(err error) error {
	if !a.isConfined() || !strings.Contains(err.Error(), unix.EACCES.Error()) {
		return err
	}
	refusal := *fault.From(err)
	return refusal.WithHint("a running daemon reads only the folders that its config named at the start: put the file there, or %s", restart)
}

// examineConfinement tells how the process is shut in, where that was tried.
func (a *Agent) examineConfinement(d *diagnosis) {
	switch c := a.confined.Load(); {
	case c == nil:
	case c.err != nil:
		d.add("permissions", Warning, "the daemon isn't shut in to its own files: "+c.err.Error(), "a kernel from 5.19 on with landlock in /sys/kernel/security/lsm")
	default:
		d.add("permissions", Fine, "the daemon is shut in to its own files: "+c.how, "")
	}
}
