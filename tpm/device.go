package tpm

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

const (
	// defaultDeadline is generous: 600 ms is common for one command, some chips
	// take two seconds to make the SRK.
	defaultDeadline = 5 * time.Second

	// maxPCR is the highest PCR of a PC Client TPM.
	maxPCR = 23
)

// Options says which TPM, and how it is used.
type Options struct {
	// Device is a path such as /dev/tpmrm0, unix:/path or tcp:host:port of an
	// swtpm, or simulator in development builds.
	Device string
	// AllowSoftware accepts a TPM that is a program, whose keys are files.
	AllowSoftware bool
	// PCRs (of the SHA-256 bank) that what is sealed from now on is bound to.
	PCRs []int
	// Authority approves values of PCRs: a parent is bound to it then, and what is sealed
	// to no value. Nil: there is none.
	Authority *Authority
	// SRKName is the Name of the storage root key that everything was sealed
	// under. Nil accepts what there is, and SRKName of the Device tells it.
	SRKName []byte
	// OwnerAuth authorizes making the SRK and defining NV indexes.
	OwnerAuth []byte
	// EndorsementAuth authorizes making and using the endorsement key.
	EndorsementAuth []byte
	// NVBase is the handle of NV index 0; 0 is DefaultNVBase.
	NVBase uint32
	// Dial replaces Device in tests.
	Dial func() (Transport, error)
	// Log takes the loss and the return of the TPM; nil is none.
	Log *slog.Logger
	// Ran is told of each command that was sent: its name, the name of the code that its
	// answer has where that is an error (or NoAnswer, UnknownCode), and how long it took. All
	// that waits for the TPM waits for Ran too. Nil is nobody.
	Ran func(command, code string, took time.Duration)
	// Deadline of one command; 0 is five seconds. One that makes an RSA key has
	// three minutes at least.
	Deadline time.Duration
}

func (o *Options) complete() error {
	if o.NVBase == 0 {
		o.NVBase = DefaultNVBase
	}
	if o.Deadline == 0 {
		o.Deadline = defaultDeadline
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = func() (Transport, error) { return dial(o.Device) }
	}
	if o.Ran == nil {
		o.Ran = func(string, string, time.Duration) {}
	}
	o.PCRs = slices.Compact(slices.Sorted(slices.Values(o.PCRs)))
	for _, pcr := range o.PCRs {
		if pcr < 0 || pcr > maxPCR {
			return fault.New(fault.ConfigInvalid, "there is no PCR %d", pcr).WithHint("pcrs takes numbers from 0 to %d", maxPCR)
		}
	}
	return nil
}

// Device is a TPM. Its methods may be called from many goroutines; they return
// a *fault.Error: TPM_UNAVAILABLE while the TPM is gone or didn't answer in
// time, KEY_DAMAGED for a key file that is not this TPM's or was changed,
// KEY_UNSUPPORTED for what this TPM can't do.
type Device struct {
	opts Options
	jobs chan *job

	queued  atomic.Int32 // jobs that are waited for
	state   atomic.Pointer[state]
	current atomic.Pointer[job] // the one that runs
	info    atomic.Pointer[Info]
	srkName []byte

	conn  *conn         // nil: lost. Of the queue's goroutine, as is
	pause time.Duration // how long it waits before it opens the TPM again

	counting sync.Mutex // held while a counter is incremented

	approvals atomic.Pointer[[]*Approval]

	ctx     context.Context // ended by Close, ends the queue
	stop    context.CancelFunc
	stopped chan struct{} // closed when the queue has ended
}

// Open opens a TPM and makes sure that it is the one that was pinned. It fails
// with TPM_UNAVAILABLE when there is none, when it is software and that isn't
// allowed, or when its SRK is another one.
func Open(ctx context.Context, o Options) (*Device, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	d := &Device{
		opts:    o,
		srkName: slices.Clone(o.SRKName),
		jobs:    make(chan *job),
		pause:   reopenFirst,
		stopped: make(chan struct{}),
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.state.Store(&state{err: fault.New(fault.TPMUnavailable, "the TPM %s is not open yet", o.Device)})
	opened := make(chan error, 1)
	go func() {
		c, err := d.connect(ctx)
		if err != nil {
			d.stop()
			close(d.stopped)
			opened <- explain("opening "+o.Device, err)
			return
		}
		d.conn = c
		d.state.Store(&state{gone: make(chan struct{})})
		opened <- nil
		d.work()
	}()
	select {
	case err := <-opened:
		if err != nil {
			return nil, err
		}
		return d, nil
	case <-ctx.Done():
		go d.Close() //nolint:errcheck // it has none; the opening is waited for
		return nil, fault.New(fault.TPMUnavailable, "the TPM %s did not answer in time", o.Device).Because(context.Cause(ctx))
	}
}

// connect opens a connection, with the patience that an operation gets.
func (d *Device) connect(ctx context.Context) (*conn, error) {
	p := newPatience()
	for {
		c, err := d.connectOnce()
		if err == nil || !p.allows(ctx, err) {
			return c, err
		}
	}
}

// connectOnce opens a connection: what an earlier one left is flushed, the SRK
// made and compared.
func (d *Device) connectOnce() (_ *conn, err error) {
	t, err := d.opts.Dial()
	if err != nil {
		return nil, fault.New(fault.TPMUnavailable, "the TPM %s can't be opened: %v", d.opts.Device, err).
			WithHint("%s", openHint(d.opts.Device, err)).Because(err)
	}
	c, err := newConn(t, &d.opts, d.hang)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := c.flushLeftovers(); err != nil {
		return nil, err
	}
	info := d.info.Load()
	if info == nil {
		if info, err = c.probe(); err != nil {
			return nil, err
		}
		info.Device = d.opts.Device
		if info.Software && !d.opts.AllowSoftware {
			return nil, errSoftware(info)
		}
	}
	c.approvals = &d.approvals
	c.maxInput, c.maxNV = min(info.MaxInput, maxChunk), min(info.MaxNV, maxChunk)
	srk, err := c.openSRK(d.srkName, d.opts.OwnerAuth)
	if err != nil {
		return nil, err
	}
	if d.srkName != nil && !slices.Equal(srk, d.srkName) {
		return nil, errOtherTPM(d.opts.Device, srk, d.srkName)
	}
	if d.srkName == nil {
		d.srkName = srk
	}
	d.info.Store(info)
	return c, nil
}

// openHint is what to look at where a device can't be opened.
func openHint(device string, err error) string {
	switch {
	case device == "simulator":
		return "make dev builds sealsignd with the simulator"
	case errors.Is(err, fs.ErrPermission):
		return "the daemon's user must be in its group, tss on most systems, and the daemon be restarted after that: sealsign doctor, while it is stopped, says more"
	case strings.HasPrefix(device, "/"):
		return "check that the TPM is enabled in the firmware and that the daemon may open it (group tss)"
	}
	return "start the software TPM (swtpm) that is to listen there, or correct device under [tpm]"
}

func errSoftware(i *Info) error {
	return fault.New(fault.TPMUnavailable, "%s is a software TPM (%s): its keys are files that can be copied", i.Device, i.Manufacturer).
		WithHint("for tests only, set allow_software = true under [tpm]")
}

// ErrOtherTPM is the cause of the refusal of a TPM that is not the pinned one.
var ErrOtherTPM = errors.New("another TPM")

func errOtherTPM(device string, found, pinned []byte) error {
	return fault.New(fault.TPMUnavailable,
		"%s is another TPM than the one the keys were sealed to, or it was cleared: its storage root key is %x, not %x", device, found, pinned).
		WithHint("bring back the old TPM; or accept this one (sealsign store recover) and import every credential again").Because(ErrOtherTPM)
}

// Healthy is nil while the TPM answers, or why it doesn't; it is opened again in
// the background. It asks the TPM nothing.
func (d *Device) Healthy() error { return d.state.Load().err }

// Queued is how many operations wait for the TPM, the one that runs included.
func (d *Device) Queued() int { return int(d.queued.Load()) }

// SRKName is the Name of the storage root key: its algorithm (2 bytes) and
// SHA-256 (32 bytes).
func (d *Device) SRKName() []byte { return slices.Clone(d.srkName) }

// Close ends the use of the TPM: what is in the queue fails, what runs is
// finished, what was loaded is flushed. It fails when the TPM doesn't come back
// from what it does.
func (d *Device) Close() error {
	d.stop()
	select {
	case <-d.stopped:
		return nil
	case <-time.After(2 * d.opts.Deadline):
		return fault.New(fault.TPMUnavailable, "the TPM %s does not answer, and was left as it is", d.opts.Device)
	}
}

// name is the Name of what has this public area.
func name(public []byte) []byte {
	sum := sha256.Sum256(public)
	return append([]byte{byte(tpm2.TPMAlgSHA256 >> 8), byte(tpm2.TPMAlgSHA256 & 0xff)}, sum[:]...)
}
