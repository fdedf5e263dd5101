// Package agent is sealsign itself: it holds the parts together (config, keys,
// limits, log, TPM), and has the one way that a request takes through them.
// Begin with do.go.
package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/config"
	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/agent/ledger"
	"github.com/sealsign/sealsign/agent/metrics"
	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// openTimeout is how long the start, and each later try, waits for the TPM: its driver may hang.
const openTimeout = 10 * time.Second

// userAgent is what the agent calls itself where the app doesn't name itself.
const userAgent = "sealsign"

// Options is how an agent is started. All but Config may be left out.
type Options struct {
	Config string // path of the config file
	Logger *slog.Logger
	Now    func() time.Time
	// Synchronised tells whether somebody keeps the clock right that Now reads; nil asks the kernel.
	Synchronised func() bool

	Dial  Dialer
	TPM   func() (tpm.Transport, error) // in place of the device that the config names
	Fault audit.Fault                   // asked before each operation on a file of the log and the ledger, for tests

	// Reloading is called when the config begins to be read again; what it gives, when that has ended.
	Reloading func() (reloaded func())
}

// Agent is a running agent. Its methods may be called by many goroutines at once.
type Agent struct {
	opts       Options
	logger     *slog.Logger
	now        func() time.Time
	startedAt  time.Time
	device     atomic.Pointer[tpm.Device] // nil until the TPM has answered once
	tpmError   atomic.Pointer[error]      // why it is nil
	signer     atomic.Pointer[checkpointer]
	ring       *keyring.Ring
	ledger     *ledger.Ledger
	log        *audit.Log
	metrics    *metrics.Metrics
	clocks     clocks
	slots      slots
	transports *transports
	lock       *os.File
	ctx        context.Context // ended by Stop
	stop       context.CancelFunc
	awaiting   sync.WaitGroup // for the TPM, the times to be kept, what venues say of keys, and what comes by the inbox
	connecting sync.Mutex     // held while the TPM is opened

	self     *caller.Caller // who asks where the agent itself does
	switches *switches      // keys whose rights may be unknown
	using    sync.RWMutex   // held while another config comes into force

	setup     atomic.Pointer[setup]
	reloading sync.Mutex
	badConfig atomic.Pointer[error] // why the last edit was refused; nil: it was not
	confined  atomic.Pointer[confinement]
}

// Start opens the state folder and the TPM, and makes the config's keys ready.
// It asks nothing of a venue, and its time does not depend on the number of keys.
func Start(ctx context.Context, opts Options) (_ *Agent, err error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Synchronised == nil {
		opts.Synchronised = synchronised
	}
	a := &Agent{
		opts: opts, logger: opts.Logger, now: opts.Now, startedAt: opts.Now(), transports: &transports{dial: opts.Dial}, switches: newSwitches(),
	}
	a.ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	a.metrics = metrics.New(a.state)
	a.clocks.now = opts.Now
	loaded, err := load(opts.Config)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.Stop()
		}
	}()
	if a.self, err = caller.Self(); err != nil {
		return nil, err
	}
	if a.lock, err = openState(loaded.Agent.StateDir); err != nil {
		return nil, err
	}
	if err = a.openParts(loaded); err != nil {
		return nil, err
	}
	if err := a.connectTPM(ctx, loaded, false); err != nil {
		a.logger.Error("there is no TPM to use yet", event.Key, event.TPMLost, "error", err)
		a.awaiting.Go(func() { a.awaitTPM(loaded) })
	}
	a.use(loaded)
	go a.ring.Warm(a.ctx)
	a.awaiting.Go(a.tendAll)
	a.awaiting.Go(a.readRights)
	a.awaiting.Go(func() { a.watchInbox(loaded.Agent.StateDir) })
	if err := a.recordAdmin("agent.start", nil); err != nil {
		a.logger.Error("the start is not in the log", "error", err) // as every request will say too
	}
	return a, nil
}

func load(path string) (*config.Config, error) {
	loaded, problems := config.Load(path)
	if problems != nil {
		return nil, fault.New(fault.ConfigInvalid, "%v", problems).WithHint("sealsign config check %s", path)
	}
	return loaded, nil
}

// openParts opens what is on disk. A log or ledger that can't be used says so in
// each answer and recovers by itself, so that an operator finds a running daemon.
func (a *Agent) openParts(c *config.Config) (err error) {
	dir := c.Agent.StateDir
	a.log, err = audit.Open(filepath.Join(dir, "audit"), audit.Options{
		Sync: c.Audit.Sync, SegmentSize: c.Audit.Segment, Checkpoint: c.Audit.Checkpoint,
		Origin: origin(c.Agent.Environment), Digests: a.digests, OnCheckpoint: a.announce, Now: a.now, Log: a.logger,
		Synced: a.metrics.Synced, Fault: a.opts.Fault,
	})
	if err != nil {
		a.logger.Error("the log can't be used yet", "error", err)
	}
	a.ledger, err = ledger.Open(filepath.Join(dir, "ledger"), ledger.Options{Log: a.logger, Now: a.now, Fault: a.opts.Fault})
	if err != nil {
		a.logger.Error("the ledger can't be used yet", "error", err)
	}
	a.clocks.agreed = a.ledger.Saw
	a.ring, err = keyring.Open(dir, nil, keyring.Options{
		Log: a.logger, Now: a.now, Time: a.time, LastUse: a.ledger.LastUse, Switched: a.switched,
		Try: a.try, Live: a.switches.add, MakeRoom: a.log.MakeRoom,
	})
	return err
}

// origin names a new log in its checkpoints; an old one keeps its name.
func origin(environment string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return host + "/sealsign/" + environment
}

// connectTPM opens the TPM and, the first time or to adopt it, ties the state folder
// to it.
func (a *Agent) connectTPM(ctx context.Context, c *config.Config, adopt bool) (err error) {
	a.connecting.Lock()
	defer a.connecting.Unlock()
	if a.device.Load() != nil {
		return nil
	}
	defer func() {
		if err != nil {
			a.tpmError.Store(&err)
		}
	}()
	known, err := readHost(c.Agent.StateDir)
	if err != nil {
		return err
	}
	if known == nil && a.ring.Used() && !adopt {
		return fault.New(fault.TPMUnavailable, "%s is missing in %s, and there are keys: nobody knows which TPM they belong to", hostFile, c.Agent.StateDir).
			WithHint("bring it back from a backup; or accept the TPM that is there: sealsign store recover").Because(tpm.ErrOtherTPM)
	}
	opts := tpm.Options{
		Device: c.TPM.Device, AllowSoftware: c.TPM.AllowSoftware, PCRs: c.TPM.PCRs, NVBase: c.TPM.NVBase, Dial: a.opts.TPM, Log: a.logger, Ran: a.metrics.Ran,
	}
	if key := c.TPM.PCRAuthority; key != nil {
		if opts.Authority, err = tpm.NewAuthority(key); err != nil {
			return err
		}
	}
	if known != nil {
		opts.SRKName = known.SRKName
	}
	if opts.OwnerAuth, err = hierarchyAuth("owner"); err != nil {
		return err
	}
	if opts.EndorsementAuth, err = hierarchyAuth("endorsement"); err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	device, err := tpm.Open(opening, opts)
	if err != nil {
		return err
	}
	if known == nil {
		known, err = newHost(ctx, device, c.Agent.StateDir)
	}
	var signer *checkpointer
	if err == nil {
		signer, err = newCheckpointer(device, known.CheckpointKey)
	}
	if err != nil {
		return errors.Join(err, device.Close())
	}
	a.log.SetSigner(signer.public, signer.sign)
	approvals, err := readApprovals(c.Agent.StateDir)
	if err != nil {
		a.logger.Error("approvals of PCRs can't be read", "error", err) // what needs them says so, too
	}
	device.SetApprovals(approvals)
	a.ring.SetTPM(device)
	a.signer.Store(signer)
	a.device.Store(device)
	go func() { _, _ = a.log.Checkpoint(context.WithoutCancel(ctx)) }() // it puts the public key beside the log; status tells a failure
	return nil
}

// awaitTPM tries until the TPM is there: a daemon without one still tells its
// state, revokes, and verifies.
func (a *Agent) awaitTPM(c *config.Config) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		select {
		case <-a.ctx.Done():
			return
		case <-time.After(pause):
		}
		if a.connectTPM(a.ctx, c, false) == nil {
			a.logger.Info("the TPM has come", event.Key, event.TPMBack)
			a.ring.Warm(a.ctx)
			return
		}
	}
}

// digests is what a checkpoint vouches for besides the log.
func (a *Agent) digests() map[string]string {
	s := a.setup.Load()
	if s == nil {
		return nil
	}
	return map[string]string{"config": "sha256:" + s.config.Digest, "manifest": "sha256:" + a.ring.Digest()}
}

// announce puts a checkpoint where an attacker on this host can't take it back:
// the daemon's log, which the journal may send elsewhere.
func (a *Agent) announce(note string) {
	a.logger.Info("checkpoint", event.Key, event.Checkpoint, "note", note)
}

// use makes a config the one in force. The keyring comes first, so that no
// request finds a key in the config that the keyring doesn't have yet.
func (a *Agent) use(c *config.Config) {
	s := newSetup(c, a.transports, a.now(), a.setup.Load())
	a.ring.SetRecovery(c.Agent.Recovery)
	a.using.Lock()
	a.ring.Apply(s.specs())
	a.setup.Store(s)
	a.using.Unlock()
	a.badConfig.Store(nil)
	for _, warning := range c.Warnings {
		a.logger.Warn("config", "warning", warning)
	}
}

// inForce is the config in force, the one that is just coming into force included:
// what the keyring begins because of it finds it here.
func (a *Agent) inForce() *setup {
	a.using.RLock()
	defer a.using.RUnlock()
	return a.setup.Load()
}

// Reload reads the config again. A bad one, or one that needs a restart, is
// refused whole: the config before it stays in force, and the error tells why.
func (a *Agent) Reload() error {
	changed, err := a.reload()
	if err == nil && !changed {
		a.logger.Info("config read again: unchanged", "path", a.opts.Config) // somebody asked, and waits for a sign
	}
	return err
}

func (a *Agent) reload() (changed bool, err error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.opts.Reloading != nil {
		defer a.opts.Reloading()()
	}
	loaded, err := load(a.opts.Config)
	if err == nil {
		err = cmp.Or(restartNeeded(a.setup.Load().config, loaded), a.beyond(loaded))
	}
	if err != nil {
		why := a.shutOut(err) // the result is written to again
		a.badConfig.Store(&why)
		a.logger.Error("the config is refused, and the one before stays in force", event.Key, event.ConfigRefused, "path", a.opts.Config, "error", why)
		return false, errors.Join(why, a.recordAdmin("config.refused", why))
	}
	if loaded.Same(a.setup.Load().config) {
		a.badConfig.Store(nil)
		return false, nil
	}
	a.use(loaded)
	a.logger.Info("config loaded", event.Key, event.ConfigLoaded, "path", a.opts.Config)
	go a.ring.Warm(a.ctx)
	return true, a.recordAdmin("config.loaded", nil)
}

// restart is the next step where a running daemon can't follow.
const restart = "restart sealsignd (under systemd: systemctl restart sealsign)"

// restartNeeded names what a running agent can't change.
func restartNeeded(old, edited *config.Config) error {
	var names []string
	for name, same := range map[string]bool{
		"agent.environment":  old.Agent.Environment == edited.Agent.Environment,
		"agent.state_dir":    old.Agent.StateDir == edited.Agent.StateDir,
		"agent.runtime_dir":  old.Agent.RuntimeDir == edited.Agent.RuntimeDir,
		"agent.socket_group": old.Agent.SocketGroup == edited.Agent.SocketGroup,
		"tpm.device":         old.TPM.Device == edited.TPM.Device,
		"tpm.allow_software": old.TPM.AllowSoftware == edited.TPM.AllowSoftware,
		"tpm.nv_base":        old.TPM.NVBase == edited.TPM.NVBase,
		"tpm.pcrs":           slices.Equal(old.TPM.PCRs, edited.TPM.PCRs),
		"tpm.pcr_authority":  sameKey(old.TPM.PCRAuthority, edited.TPM.PCRAuthority),
		"audit.sync":         old.Audit.Sync == edited.Audit.Sync,
		"audit.checkpoint":   old.Audit.Checkpoint == edited.Audit.Checkpoint,
		"audit.segment":      old.Audit.Segment == edited.Audit.Segment,
		"audit.keep":         old.Audit.Keep == edited.Audit.Keep,
		"audit.max_size":     old.Audit.MaxSize == edited.Audit.MaxSize,
		"metrics.listen":     old.Metrics == edited.Metrics,
	} {
		if !same {
			names = append(names, name)
		}
	}
	if names == nil {
		return nil
	}
	slices.Sort(names)
	return fault.New(fault.ConfigInvalid, "a running daemon can't change %s", strings.Join(names, ", ")).
		WithHint("%s, or take that part of the edit back", restart)
}

// Watch reloads the config whenever its files change, until ctx ends.
func (a *Agent) Watch(ctx context.Context) {
	reload := func() { _, _ = a.reload() } // it logs why it refuses
	config.Watch(ctx, a.opts.Config, reload)
	reload() // for an edit between Start and now
}

// Stop ends the agent: the log gets its last checkpoint, the ledger its exact
// numbers, and what memory held of keys is wiped.
func (a *Agent) Stop() {
	a.stop()
	a.awaiting.Wait()
	if a.ring != nil {
		a.ring.Close() // trials have records, so before the log
	}
	if a.log != nil {
		_ = a.recordAdmin("agent.stop", nil) // a log that takes no records has said so before
		if err := a.log.Close(); err != nil {
			a.logger.Error("closing the log", "error", err)
		}
	}
	if a.ledger != nil {
		if err := a.ledger.Close(); err != nil {
			a.logger.Error("closing the ledger", "error", err)
		}
	}
	if device := a.device.Load(); device != nil {
		_ = device.Close()
	}
	a.transports.close()
	if a.self != nil {
		_ = a.self.Close()
	}
	if a.lock != nil {
		_ = a.lock.Close()
	}
}
