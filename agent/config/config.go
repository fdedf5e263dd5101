// Package config reads the files that an operator writes: sealsign.toml and
// conf.d/*.toml beside it, as if they were one. It reports all that is wrong at
// once, each with its place, and takes a configuration whole or not at all.
// What can be wrong is found here, without a daemon or a TPM, so that checking
// a file and loading it are the same code.
package config

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"fmt"
	"reflect"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
)

// Config is what the files say, checked and with every default filled in.
type Config struct {
	Agent   Agent
	TPM     TPM
	Audit   Audit
	Metrics Metrics
	Venues  map[string]*venue.Venue // built in, overridden, and the operator's own
	CAs     map[string]*CA          // by venue; the others use the system's roots
	Keys    map[string]*Key
	Roles   map[string]*policy.Role
	Callers policy.Callers

	// Warnings are what the operator should know of a configuration that is
	// accepted, each beginning with the place it is about.
	Warnings []string
	// Digest is the SHA-256 (hex) of what sha256sum prints for all files read,
	// named relative to the folder of sealsign.toml where they are below it:
	// "sha256sum sealsign.toml conf.d/*.toml /etc/ssl/mock.pem | sha256sum".
	Digest string
	// Files are the paths of those files.
	Files []string
}

// Agent is [agent].
type Agent struct {
	StateDir    string
	RuntimeDir  string
	Environment string
	SocketGroup string
	Recovery    []age.Recipient // offline keys that each import is encrypted to as well
	SocketGID   int             // -1 where this host has no such group
}

// TPM is [tpm].
type TPM struct {
	Device        string // a path, "unix:PATH", "tcp:HOST:PORT" or "simulator"
	AllowSoftware bool
	PCRs          []int            // ascending
	PCRAuthority  crypto.PublicKey // approves values of PCRs: P-256 or RSA-2048; nil: none does
	NVBase        uint32           // of the NV indexes that the agent may use; 0: the usual
}

// Audit is [audit].
type Audit struct {
	Sync       string // SyncGroup or SyncInterval
	Checkpoint time.Duration
	Segment    int64 // bytes
	Keep       time.Duration
	MaxSize    int64 // bytes
}

// When an audit record counts as kept.
const (
	SyncGroup    = "group"    // on disk before anything leaves
	SyncInterval = "interval" // handed to the kernel before it leaves, on disk within a second
)

// Metrics is [metrics]: where they are served, as net.Listen has it. Zero: nowhere.
type Metrics struct {
	Network string // "unix" or "tcp"
	Address string // an absolute path, or a loopback address with its port
}

// CA is a venue's ca_file.
type CA struct {
	File   string
	SHA256 string // of the file, hex
	Pool   *x509.CertPool
}

// Protection is where the secret of a key lives.
type Protection string

// The levels of protection.
const (
	Sealed    Protection = "sealed"    // sealed to the TPM, used in guarded memory
	Resident  Protection = "resident"  // imported to the TPM and used there
	Generated Protection = "generated" // made in the TPM, and never outside
)

// Key is [keys.NAME].
type Key struct {
	Name        string
	Venue       *venue.Venue
	Environment string
	Algorithm   venue.Algorithm
	Protection  Protection
	Version     int // that signs; 0: the newest imported by an operator
	Grace       time.Duration
	MaxAge      time.Duration // of the version that signs, until its rotation is due; 0: never
	Expires     time.Time     // it stops signing then; zero: never
	IdleAfter   time.Duration // without use, it is marked then
	Probe       Probe
}

// Probe says when a version is tried with the venue before it signs.
type Probe string

// The ways to try a version.
const (
	ProbeAuto     Probe = "auto"     // where the venue has a read for it, and another version signs meanwhile
	ProbeOff      Probe = "off"      // never, nor are the key's rights read
	ProbeRequired Probe = "required" // always: only a venue that takes the version lets it sign
)

// Same tells whether two configs say the same: in their files, and in the uids and
// gids that this host has for their names.
func (c *Config) Same(other *Config) bool {
	return c.Digest == other.Digest && c.Agent.SocketGID == other.Agent.SocketGID && reflect.DeepEqual(c.Callers, other.Callers)
}

// Load reads the configuration at path, the main file, with conf.d beside it.
// It returns either a configuration or the problems that it has. It reads files
// and the host's users and groups, and changes nothing.
func Load(path string) (*Config, Problems) {
	var problems Problems
	files := readFiles(path, &problems)
	return newLoader(path, problems).build(files)
}

func newLoader(path string, problems Problems) *loader {
	return &loader{
		config:   &Config{},
		mainFile: path,
		root:     newTable(),
		problems: problems,
		broken:   len(problems) > 0,
	}
}

// build makes the configuration of the files that could be read.
func (l *loader) build(files []file) (*Config, Problems) {
	for _, f := range files {
		l.parse(f)
	}
	if !l.broken {
		l.read()
	}
	if len(l.problems) > 0 {
		l.problems.sort()
		if l.untold > 0 {
			l.problems = append(l.problems, Problem{File: l.mainFile, Message: fmt.Sprintf("has %d problems more", l.untold)})
		}
		return nil, l.problems
	}
	l.warn(files)
	slices.SortFunc(l.others, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	files = append(files, l.others...)
	l.config.Digest = digest(files)
	for _, f := range files {
		l.config.Files = append(l.config.Files, f.path)
	}
	return l.config, nil
}

// loader is one load on its way.
type loader struct {
	config    *Config
	root      *table
	problems  Problems
	untold    int    // problems beyond the most that are told
	mainFile  string // its path
	elsewhere bool   // the configuration is another host's
	broken    bool   // a file is missing or no TOML: what the others say can't be judged
	others    []file // what the configuration made it read: CA files
}

// read makes the configuration of the merged table. Later sections refer to
// those before them.
func (l *loader) read() {
	l.root.file = l.mainFile
	root := l.section(l.root)
	l.version(root)
	l.agent(root.below("agent"))
	l.tpm(root.below("tpm"))
	l.audit(root.below("audit"))
	l.metrics(root.below("metrics"))
	l.venues(root.below("venues"))
	l.keys(root.below("keys"))
	roles, callers := root.below("roles"), root.below("callers")
	if !l.elsewhere {
		l.roles(roles)
		l.callers(callers)
	}
	root.later("approvers")
	root.done("a section")
}
