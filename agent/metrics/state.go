package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/keyring"
)

// State is what is the case with an agent.
type State struct {
	Requests []*Requests // of the config's callers and keys

	Keys   []Key
	Store  error // why the keys aren't known to be the newest state of this host
	TPM    error // why it can't be used
	Queue  int   // operations that wait for it
	Audit  audit.Status
	Ledger error
	Disk   *Disk // nil: not known

	Config         error // why the last edit was refused
	ConfigLoadedAt time.Time
	ConfigWarnings int

	Clocks []Clock
}

// Key is a key of the config.
type Key struct {
	keyring.Info
	Warnings int // about its rights at its venue
}

// Disk is the state folder's, in bytes.
type Disk struct{ Available, Size uint64 }

// Clock is how far a venue's is ahead of the host's.
type Clock struct {
	Venue, Host string
	Ahead       time.Duration
}

// Describe is prometheus.Collector's.
func (m *Metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, metric := range all {
		if metric.kind != histogram && metric != tpmErrors { // which collect themselves
			descs <- metric.desc
		}
	}
}

// Collect is prometheus.Collector's: it reads the agent's state.
func (m *Metrics) Collect(metrics chan<- prometheus.Metric) {
	give := giver(func(m *metric, value float64, labels ...string) {
		as := prometheus.GaugeValue
		if m.kind == counter {
			as = prometheus.CounterValue
		}
		metrics <- prometheus.MustNewConstMetric(m.desc, as, value, labels...)
	})
	metrics <- m.build
	if inUse := m.sockets.Load(); inUse != nil {
		c, s := (*inUse)()
		give(connections, float64(c))
		give(streams, float64(s))
	}
	s := m.read()
	for _, r := range s.Requests {
		r.collect(give)
	}
	for i := range s.Keys {
		s.Keys[i].collect(give)
	}
	s.collect(give)
}

func (s *State) collect(give giver) {
	give(storeTrusted, isNil(s.Store))
	give(tpmUp, isNil(s.TPM))
	give(tpmQueue, float64(s.Queue))
	give(ledgerUp, isNil(s.Ledger))

	give(auditUp, isNil(s.Audit.Problem))
	give(auditRecords, float64(s.Audit.Records))
	give(auditCovered, float64(s.Audit.Covered))
	give.time(auditSigned, s.Audit.CheckpointAt)
	if s.Disk != nil {
		give(diskAvailable, float64(s.Disk.Available))
		give(diskSize, float64(s.Disk.Size))
	}

	give(configOK, isNil(s.Config))
	give.time(configLoaded, s.ConfigLoadedAt)
	give(configWarned, float64(s.ConfigWarnings))
	for _, c := range s.Clocks {
		give(clockSkew, c.Ahead.Seconds(), c.Venue, c.Host)
	}
}

func (k *Key) collect(give giver) {
	give(keyInfo, 1, k.Name, k.Venue, k.Environment, k.Algorithm, k.Protection)
	give(keyState, 1, k.Name, k.State)
	give(keyVersion, float64(k.Active), k.Name, "active")
	give(keyVersion, float64(k.Wanted), k.Name, "wanted")
	give.time(keyExpires, k.Schedule.Expires, k.Name)
	give.time(keyRotation, k.Schedule.RotationDue, k.Name)
	give.time(keyUsed, k.Schedule.LastUsed, k.Name)
	for _, v := range k.Versions {
		if v.Version != k.Active {
			continue
		}
		give.time(keyImported, v.ImportedAt, k.Name)
		if v.Rights != nil {
			give.time(keyVenueExpires, v.Rights.Expires, k.Name)
			give(keyRights, float64(k.Warnings), k.Name)
		}
	}
}

// giver takes the values of metrics.
type giver func(m *metric, value float64, labels ...string)

// time gives a time in Unix seconds, if there is one.
func (give giver) time(m *metric, at time.Time, labels ...string) {
	if !at.IsZero() {
		give(m, float64(at.UnixMilli())/1000, labels...)
	}
}

func isNil(err error) float64 {
	if err == nil {
		return 1
	}
	return 0
}
