// Package metrics is what the agent tells Prometheus. names.go has every name, and
// what docs/metrics.md says of it.
//
// What happens is counted as it does: a request is by its Requests, which hold no
// label to look up, the others by histograms of few labels. What is the case is read
// when it is asked for (State): from memory, without the TPM, and with no lock held
// for longer than it takes to copy what it guards.
//
// No label is a caller's to choose: callers, keys and hosts are the config's, all
// others are enumerated.
package metrics

import (
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/internal/build"
)

const (
	// maxScrapes is how many answers are made at once: Prometheus and somebody who looks.
	maxScrapes = 2
	// scrapeTimeout is how long one may take; Prometheus waits for ten seconds.
	scrapeTimeout = 10 * time.Second
)

// Step is one of a request's way, see agent/do.go.
type Step int

// The steps.
const (
	Identify Step = iota
	Classify
	Decide
	Render
	Sign
	Record
	Check
	Forward
	steps
)

var stepNames = [steps]string{"identify", "classify", "decide", "render", "sign", "record", "check", "forward"}

// fast are the limits of what may take microseconds, and may wait for a venue; slow
// those of what waits for a disk or a TPM. In seconds.
var (
	fast = []float64{1e-6, 5e-6, 25e-6, 100e-6, 500e-6, 2.5e-3, 10e-3, 50e-3, 250e-3, 1, 5, 30}
	slow = []float64{100e-6, 500e-6, 2e-3, 10e-3, 50e-3, 200e-3, 1, 5, 30, 180}
)

// Metrics are those of one agent. Its methods may be called by many goroutines.
type Metrics struct {
	read    func() State
	sockets atomic.Pointer[func() (connections, streams int)]

	build   prometheus.Metric
	handler http.Handler

	modes     map[policy.Mode]prometheus.Observer
	steps     [steps]prometheus.Observer
	sync      prometheus.Observer
	tpm       *prometheus.HistogramVec
	tpmErrors *prometheus.CounterVec
}

// New makes the metrics of an agent, whose state is read whenever they are asked for.
func New(read func() State) *Metrics {
	m := &Metrics{
		read: read, build: prometheus.MustNewConstMetric(buildInfo.desc, prometheus.GaugeValue, 1, build.Version(), runtime.Version()),
		modes: make(map[policy.Mode]prometheus.Observer), tpm: histograms(tpmSeconds, slow),
		tpmErrors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: tpmErrors.name, Help: tpmErrors.help}, tpmErrors.labels),
	}
	byMode, byStep, syncs := histograms(requestSeconds, fast), histograms(stepSeconds, fast), histograms(auditSeconds, slow)
	for _, mode := range policy.Modes {
		m.modes[mode] = byMode.WithLabelValues(string(mode))
	}
	for step, name := range stepNames {
		m.steps[step] = byStep.WithLabelValues(name)
	}
	m.sync = syncs.WithLabelValues()
	registry := prometheus.NewRegistry()
	registry.MustRegister(m, byMode, byStep, m.tpm, m.tpmErrors, syncs,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout})
	return m
}

func histograms(m *metric, limits []float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: m.name, Help: m.help, Buckets: limits}, m.labels)
}

// Answered notes how long a request took until its answer.
func (m *Metrics) Answered(mode policy.Mode, d time.Duration) { m.modes[mode].Observe(d.Seconds()) }

// Took notes how long a step of a request took.
func (m *Metrics) Took(step Step, d time.Duration) { m.steps[step].Observe(d.Seconds()) }

// Synced notes how long it took to bring records of the log on disk.
func (m *Metrics) Synced(d time.Duration) { m.sync.Observe(d.Seconds()) }

// Ran notes a TPM command, and the code of its answer if that is an error.
func (m *Metrics) Ran(command, code string, d time.Duration) {
	m.tpm.WithLabelValues(command).Observe(d.Seconds())
	if code != "" {
		m.tpmErrors.WithLabelValues(command, code).Inc()
	}
}

// Sockets has the connections and streams in use read from now on.
func (m *Metrics) Sockets(inUse func() (connections, streams int)) { m.sockets.Store(&inUse) }

// ServeHTTP answers with the metrics, in the format that the client prefers.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }
