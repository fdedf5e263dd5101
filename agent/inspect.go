package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/config"
	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// Status is how the agent is.
type Status struct {
	Environment string
	StartedAt   time.Time
	ConfigPath  string
	LoadedAt    time.Time
	ConfigError error // why the last edit was refused
	Warnings    []string
	TPM         tpm.Info
	TPMError    error
	Audit       audit.Status
	StoreError  error // why the keys aren't known to be the newest state of this host
	AnchorError error // why an older copy of them could take their place
	EndingError error // why what RevokeAll revoked opens from a copy still
	Keys        []keyring.Info
	Memory      string
}

// Status tells how the agent is. It asks nothing of a venue, and of the TPM only
// for the proof of the keys that every start needs once.
func (a *Agent) Status() Status {
	s := a.setup.Load()
	status := Status{
		Environment: s.config.Agent.Environment, StartedAt: a.startedAt, ConfigPath: a.opts.Config, LoadedAt: s.loadedAt,
		Warnings: s.config.Warnings, TPM: tpm.Info{Device: s.config.TPM.Device},
		Audit: a.log.Status(), Keys: a.ring.List(), Memory: keyring.Memory(),
		StoreError: a.ring.Proved(), AnchorError: a.ring.Anchored(), EndingError: a.ring.Ended(),
	}
	if device := a.device.Load(); device != nil {
		status.TPM, status.TPMError = device.Info(), device.Healthy()
	} else if missing := a.tpmError.Load(); missing != nil {
		status.TPMError = *missing
	}
	if bad := a.badConfig.Load(); bad != nil {
		status.ConfigError = *bad
	}
	return status
}

// KeyHosts tells whether a host is one of a key's.
func (a *Agent) KeyHosts(host string) bool { return len(a.setup.Load().hosts[host]) > 0 }

// GrantedKey is a key that a caller may use, and how.
type GrantedKey struct {
	Name, Venue, Environment, State string
	Hosts                           []string
	Roles                           []*policy.Role
}

// Granted lists the keys that the caller's roles name.
func (a *Agent) Granted(who *caller.Caller) ([]GrantedKey, error) {
	s := a.setup.Load()
	found, err := s.match(who)
	if err != nil {
		return nil, err
	}
	var granted []GrantedKey
	for _, name := range slices.Sorted(maps.Keys(s.keys)) {
		k := s.keys[name]
		g := GrantedKey{Name: name, Venue: k.venue.Name(), Environment: k.environment, Hosts: k.hosts}
		for _, role := range found.Roles {
			if role.Keys[name] {
				g.Roles = append(g.Roles, role)
			}
		}
		if g.Roles == nil {
			continue
		}
		if info, err := a.ring.Info(name); err == nil {
			g.State = info.State
		}
		granted = append(granted, g)
	}
	return granted, nil
}

// Judgement is what would be decided for a request.
type Judgement struct {
	Key     string
	Effects []venue.Effect
	Rule    string
	Refusal *fault.Error // nil: allowed
}

// TestPolicy tells what would be decided for a request of a caller that the
// config names. Nothing is signed, counted or recorded.
func (a *Agent) TestPolicy(name string, ask *Ask) Judgement {
	s := a.setup.Load()
	p := &pass{agent: a, setup: s, ask: ask}
	at := slices.IndexFunc(s.callers, func(c *policy.Caller) bool { return c.Name == name })
	if at < 0 {
		return Judgement{Refusal: fault.New(fault.CallerUnknown, "there is no [callers.%s] in the config", name)}
	}
	p.caller = s.callers[at]
	err := func() (err error) {
		if p.key, p.several, err = s.choose(p.caller, ask); err != nil {
			return err
		}
		if err = p.classify(); err != nil {
			return err
		}
		_, err = p.judge()
		return err
	}()
	j := Judgement{Effects: p.effects, Rule: p.record.Rule}
	if p.key != nil && !p.several { // of several nobody has chosen one
		j.Key = p.key.name
	}
	if err != nil {
		j.Refusal = fault.From(err)
		j.Rule = j.Refusal.Rule
		if p.several {
			j.Refusal.Hint = "name one of them: --key NAME"
		}
	}
	return j
}

// Finding is one thing that doctor looked at.
type Finding struct {
	Area  string // tpm, memory, permissions, clock, limits, config, keys, audit, ledger
	Level string // Fine, Warning or Problem
	What  string
	Next  string // the next step, where there is one
}

// The levels of a finding.
const (
	Fine    = "ok"
	Warning = "warning"
	Problem = "problem"
)

// Doctor looks at all that the agent stands on, and says the next step for each
// thing that isn't as it should be.
func (a *Agent) Doctor(ctx context.Context) []Finding {
	var d diagnosis
	a.examineTPM(ctx, &d)
	a.examineHost(&d)
	a.examineConfinement(&d)
	a.examineTime(&d)
	s := a.Status()
	d.check("config", s.ConfigError, "the config in force was loaded from "+s.ConfigPath, "sealsign config check "+s.ConfigPath)
	for _, warning := range s.Warnings {
		d.add("config", Warning, warning, "")
	}
	d.check("audit", s.Audit.Problem, fmt.Sprintf("records: %d, of which the newest checkpoint covers %d", s.Audit.Records, s.Audit.Covered), "df -h; the log recovers by itself")
	if s.Audit.Problem == nil {
		d.check("audit", s.Audit.CheckpointProblem, "checkpoints can be signed", "sealsign doctor, when the TPM is back")
	}
	if store := cmp.Or(s.StoreError, s.AnchorError); s.TPMError == nil || !errors.Is(store, fault.TPMUnavailable) { // else it has been said
		d.check("keys", store, "the TPM vouches that they are the newest state of this host", "sealsign status")
	}
	if s.EndingError != nil {
		d.check("keys", s.EndingError, "", "")
	}
	d.check("ledger", a.ledger.Healthy(), "nonces and limits are kept", "df -h; the ledger recovers by itself")
	a.examineKeys(&s, &d)
	a.examineBindings(&s, &d)
	return d
}

// examineKeys looks at each key. What is wrong with the TPM or the store, and so
// with every key, has been said.
func (a *Agent) examineKeys(s *Status, d *diagnosis) {
	said := s.TPMError != nil || s.StoreError != nil
	for _, k := range s.Keys {
		*d = append(append(*d, a.ending(&k)...), idle(&k)...)
		a.examineRightsOf(d, &k)
		next := cmp.Or(k.Next, "sealsign key show "+k.Name)
		switch {
		case k.State == "suspended" || k.State == "cancel-only":
			d.add("keys", Warning, fmt.Sprintf("key %s is %s", k.Name, k.State), "sealsign key resume "+k.Name)
		case k.Problem == "":
			d.add("keys", Fine, fmt.Sprintf("key %s is %s, version %d signs", k.Name, k.State, k.Active), "")
		case said && k.OfHost():
		case k.State == string(keyring.Active):
			d.add("keys", Warning, fmt.Sprintf("%s, so version %d signs on", k.Problem, k.Active), next)
		case k.State == "unconfigured":
			if slices.ContainsFunc(k.Versions, func(v keyring.VersionInfo) bool { return v.State != keyring.Revoked }) {
				d.add("keys", Warning, k.Problem, next)
			}
		default:
			d.add("keys", Problem, k.Problem, next)
		}
	}
}

// examineBindings looks at what an update has locked, or would lock. s is from after
// the TPM was asked.
func (a *Agent) examineBindings(s *Status, d *diagnosis) {
	c := a.setup.Load().config
	if len(c.TPM.PCRs) > 0 && len(c.Agent.Recovery) == 0 {
		d.add("keys", Warning, "versions are bound to PCRs, and agent.recovery names no offline key: what an unforeseen update locks, only the venue can issue again",
			"set recovery = [\"ops.pub\"] under [agent], and import the credentials again; before an update: sealsign key reseal --all --pcr-values FILE")
	}
	if s.TPMError != nil {
		return
	}
	for _, b := range a.ring.Bindings(s.TPM.PCRs) {
		version := fmt.Sprintf("version %d of key %s", b.Version, b.Key)
		next := "sealsign key reseal " + b.Key
		switch {
		case b.Locked != nil:
			if !slices.ContainsFunc(*d, func(f Finding) bool { return strings.HasPrefix(f.What, b.Locked.Message) }) { // else it is why the key can't sign
				d.add("keys", Warning, b.Locked.Message, b.Locked.Hint)
			}
		case !slices.Equal(b.PCRs, c.TPM.PCRs):
			d.add("keys", Warning, fmt.Sprintf("%s is bound to other PCRs than the config names", version), next)
		case b.Updated:
			d.add("keys", Warning, fmt.Sprintf("%s opens with the PCRs as they were before the update, too", version), next)
		}
	}
}

type diagnosis []Finding

func (d *diagnosis) add(area, level, what, next string) {
	*d = append(*d, Finding{Area: area, Level: level, What: what, Next: next})
}

// check adds what err says, unless another area has said it already.
func (d *diagnosis) check(area string, err error, fine, next string) {
	if err == nil {
		d.add(area, Fine, fine, "")
		return
	}
	refusal := fault.From(err)
	if refusal.Hint != "" {
		next = refusal.Hint
	}
	what, rest, several := strings.Cut(refusal.Error(), "\n")
	if several {
		what += fmt.Sprintf(" (and %d more)", 1+strings.Count(rest, "\n"))
	}
	if !slices.ContainsFunc(*d, func(f Finding) bool { return f.What == what }) {
		d.add(area, Problem, what, next)
	}
}

func tpmHint(device string) string {
	if filepath.IsAbs(device) {
		return "ls -l " + device + "; the daemon's user needs the group tss"
	}
	return "is the software TPM running that " + device + " names?"
}

func (a *Agent) examineTPM(ctx context.Context, d *diagnosis) {
	device, hint := a.device.Load(), tpmHint(a.setup.Load().config.TPM.Device)
	if device == nil {
		d.check("tpm", a.Status().TPMError, "", hint)
		return
	}
	info, err := device.Inspect(ctx)
	d.check("tpm", err, fmt.Sprintf("%s, %s, firmware %s", info.Device, info.Manufacturer, info.Firmware), hint)
	if err != nil {
		return
	}
	if info.Software {
		d.add("tpm", Warning, "it is a program, not a chip: its keys are files on some disk", "use the machine's own TPM: [tpm] device = \"/dev/tpmrm0\", allow_software = false")
	}
	d.add("tpm", Fine, "keys that sign inside it: "+strings.Join(info.Can, ", "), "")
	if info.LockedOut {
		d.add("tpm", Warning, "it is in lockout: no use of sealsign's keys counts there, but others' may be refused", fmt.Sprintf("one try is forgotten every %d s; tpm2_dictionarylockout --clear-lockout", info.LockoutInterval))
	}
	settings := &a.setup.Load().config.TPM
	for _, pcr := range settings.PCRs {
		if value, known := info.PCRs[pcr]; known {
			d.add("tpm", Fine, fmt.Sprintf("PCR %d, which new versions are bound to, is %s", pcr, value), "")
		} else {
			d.add("tpm", Problem, fmt.Sprintf("it has no SHA-256 value of PCR %d, which new versions are to be bound to", pcr),
				"leave pcrs empty under [tpm], or enable the SHA-256 bank in the firmware")
		}
	}
	if settings.PCRAuthority != nil {
		d.check("tpm", device.Approved(ctx), "the PCRs have values that the authority approved", "sealsign pcr show")
	}
}

// examineHost looks at what the host gives the daemon.
func (a *Agent) examineHost(d *diagnosis) {
	kind := keyring.Memory()
	level, next := Fine, ""
	if kind != "memfd_secret" {
		level, next = Warning, "a kernel with CONFIG_SECRETMEM (booted with secretmem.enable=1 before 6.5) hides them from root's reads too"
	}
	d.add("memory", level, "secrets are kept in "+kind, next)
	examineFiles(a.Status().ConfigPath, a.setup.Load().config, d)
	var locked unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &locked); err == nil && locked.Cur < 8<<20 {
		d.add("limits", Warning, fmt.Sprintf("the daemon may lock %d KiB of memory: enough for few keys", locked.Cur>>10), "LimitMEMLOCK=64M in its unit, as sealsign.service has it")
	}
	offsets := a.clocks.offsets()
	if len(offsets) == 0 {
		d.add("clock", Fine, "no venue's clock is known yet: this host's is used", "")
	}
	for _, host := range slices.Sorted(maps.Keys(offsets)) {
		by := offsets[host].Round(time.Millisecond)
		if by.Abs() > maxCorrection {
			d.add("clock", Problem, fmt.Sprintf("%s and this host are %v apart", host, by.Abs()), "timedatectl status, chronyc tracking")
			continue
		}
		d.add("clock", Fine, fmt.Sprintf("%s is %v ahead of this host", host, by), "")
	}
}

// examineFiles looks at who may change what the daemon goes by.
func examineFiles(path string, c *config.Config, d *diagnosis) {
	open := 0
	if info, err := os.Stat(c.Agent.StateDir); err == nil && info.Mode().Perm()&0o077 != 0 {
		open++
		d.add("permissions", Problem, fmt.Sprintf("others may use %s (mode %04o)", c.Agent.StateDir, info.Mode().Perm()), "chmod 0700 "+c.Agent.StateDir)
	}
	if foreign := c.Agent.Foreign(uint32(os.Geteuid())); len(foreign) > 0 { //nolint:gosec // a uid has 32 bits
		open++
		d.add("permissions", Problem, fmt.Sprintf("%d of the state folder's files and folders belong to another user than the daemon's, %s first", len(foreign), foreign[0]),
			fmt.Sprintf("if what is in it is to be trusted: chown -R %d %s", os.Geteuid(), c.Agent.StateDir))
	}
	fragments, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "conf.d", "*.toml")) // the pattern is a good one
	for _, file := range append([]string{path, filepath.Dir(path)}, fragments...) {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o022 != 0 {
			open++
			d.add("permissions", Warning, fmt.Sprintf("others than its owner may write %s (mode %04o)", file, info.Mode().Perm()), "chmod go-w "+file)
		}
	}
	for _, caller := range c.Callers {
		if caller.Exe+caller.SHA256 != "" && !mayReadExe() {
			open++
			d.add("permissions", Warning, fmt.Sprintf("callers.%s is told by its program, which the daemon may not look at: it is always refused", caller.Name),
				"give the daemon CAP_SYS_PTRACE (under systemd by the drop-in callers-by-program.conf), or name the caller by unit and user")
		}
	}
	if open == 0 {
		d.add("permissions", Fine, "only the owner may write the config; the state folder is the daemon's alone", "")
	}
}

// mayReadExe tells whether the daemon has CAP_SYS_PTRACE.
func mayReadExe() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_PTRACE) != 0
}

// Environment is the one that the agent serves.
func (a *Agent) Environment() string { return a.setup.Load().config.Agent.Environment }

// RuntimeDir is where the sockets are to be.
func (a *Agent) RuntimeDir() string { return a.setup.Load().config.Agent.RuntimeDir }

// SocketGID is the group that apps are in; -1 where this host has no such group.
func (a *Agent) SocketGID() int { return a.setup.Load().config.Agent.SocketGID }

// MetricsAt is where the metrics are to be served, as net.Listen has it; empty: nowhere.
func (a *Agent) MetricsAt() (network, address string) {
	m := a.setup.Load().config.Metrics
	return m.Network, m.Address
}
