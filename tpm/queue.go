package tpm

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

const (
	// How long a lost TPM is left alone before it is opened again.
	reopenFirst = 100 * time.Millisecond
	reopenMost  = 5 * time.Second
)

// job is one operation in the queue. Its run works on memory of the job's own:
// the caller may leave while it runs.
type job struct {
	ctx   context.Context
	doing string // "unsealing", for errors
	run   func(*conn) error
	once  bool // it must not run twice when its answer was lost

	secrets [][]byte // copies that run works on; wiped when the job is over

	done chan struct{} // closed when err is set
	hung chan struct{} // closed when the TPM didn't answer in time
	err  error

	mu   sync.Mutex
	left bool
}

// give runs f, which hands a result to the caller's memory, unless the caller
// has left.
func (j *job) give(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.left {
		f()
	}
}

func (j *job) leave() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.left = true
}

// state is whether the TPM answers. gone is closed when this state ends.
type state struct {
	err  error // nil: it does
	gone chan struct{}
}

// do queues an operation and waits for it.
func (d *Device) do(ctx context.Context, doing string, run func(*conn) error) error {
	return d.submit(&job{ctx: ctx, doing: doing, run: run})
}

// wipe is called by who had the job last.
func (j *job) wipe() {
	for _, s := range j.secrets {
		clear(s)
	}
}

// submit queues j and waits until it is done, or its context or the TPM is gone.
func (d *Device) submit(j *job) error {
	j.done, j.hung = make(chan struct{}), make(chan struct{})
	d.queued.Add(1)
	defer d.queued.Add(-1)
	if err := d.enqueue(j); err != nil {
		j.wipe()
		return err
	}
	select {
	case <-j.done:
		return j.err
	case <-j.ctx.Done():
		j.leave()
		return left(j)
	case <-j.hung:
		j.leave()
		return lost(j, errDeadline)
	}
}

func (d *Device) enqueue(j *job) error {
	now := d.state.Load()
	if now.err != nil {
		return now.err
	}
	select {
	case d.jobs <- j:
		return nil
	case <-j.ctx.Done():
		return left(j)
	case <-now.gone:
		return d.Healthy()
	case <-d.stopped:
		return errClosed()
	}
}

func left(j *job) error {
	return fault.New(fault.TPMUnavailable, "%s: the TPM had not done it in time", j.doing).Because(context.Cause(j.ctx))
}

func errClosed() error { return fault.New(fault.TPMUnavailable, "the TPM was closed") }

// work owns the connection: it runs the jobs one by one, opens the TPM again
// when it was lost, and ends a session that nobody uses.
func (d *Device) work() {
	defer close(d.stopped)
	idle := time.NewTicker(sessionIdle / 4)
	defer idle.Stop()
	for {
		if d.conn != nil && d.conn.broken != nil { // over a flush, which fails silently
			d.drop()
			d.reopen()
		}
		var retry <-chan time.Time
		if d.conn == nil {
			retry = time.After(d.pause)
		}
		select {
		case <-d.ctx.Done():
			if d.conn != nil {
				d.conn.release()
			}
			d.down(errClosed())
			return
		case j := <-d.jobs:
			d.current.Store(j)
			j.err = d.attempt(j)
			j.wipe()
			d.current.Store(nil)
			close(j.done)
		case <-idle.C:
			if c := d.conn; c != nil && c.shared != nil && time.Since(c.shared.used) >= sessionIdle {
				c.endSession()
			}
		case <-retry:
			d.pause = min(2*d.pause, reopenMost)
			d.reopen()
		}
	}
}

// attempt runs a job as often as makes sense.
func (d *Device) attempt(j *job) error {
	p := newPatience()
	for {
		if d.conn == nil {
			return d.Healthy()
		}
		if j.ctx.Err() != nil {
			return left(j)
		}
		err := j.run(d.conn)
		if err == nil {
			return nil
		}
		r := remedyFor(err)
		if r == reload || r == reopen {
			d.drop()
			d.reopen()
		}
		if unsure(err) && j.once || !p.allows(j.ctx, err) {
			return lost(j, err)
		}
	}
}

// patience is how often one thing is tried.
type patience struct {
	until time.Time     // a busy TPM is asked
	delay time.Duration // before it is asked next
	again bool          // a new connection was tried
}

func newPatience() *patience {
	return &patience{until: time.Now().Add(busyTotal), delay: busyFirst}
}

// allows says whether what failed with err is tried once more, and waits until
// it may be. A TPM that was silent for as long as it may be isn't asked again.
func (p *patience) allows(ctx context.Context, err error) bool {
	switch remedyFor(err) {
	case wait:
		if time.Now().Add(p.delay).After(p.until) {
			return false
		}
		sleep(ctx, p.delay)
		p.delay = min(2*p.delay, busyMost)
		return ctx.Err() == nil
	case reload, reopen:
		first := !p.again
		p.again = true
		return first && !errors.Is(err, errDeadline)
	}
	return false
}

// lostAnswer marks a refusal of a command that the TPM may have carried out.
type lostAnswer struct{ error }

func (l lostAnswer) Unwrap() error { return l.error }

func lost(j *job, err error) error {
	if unsure(err) {
		err = lostAnswer{err}
	}
	return explain(j.doing, err)
}

func sleep(ctx context.Context, t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// drop closes a connection that is of no more use.
func (d *Device) drop() {
	d.conn.close()
	d.conn = nil
}

// down makes every call fail at once, those that wait in the queue too.
func (d *Device) down(err error) {
	was := d.state.Swap(&state{err: explain("using "+d.opts.Device, err)})
	if was.err == nil && d.ctx.Err() == nil { // not by Close
		d.opts.Log.Warn("the TPM is unavailable", event.Key, event.TPMLost, "device", d.opts.Device, "error", err)
		close(was.gone)
	}
}

// hang is called, from a timer, when a command takes too long. The queue's own
// goroutine may be stuck in the kernel then.
func (d *Device) hang() {
	d.down(errDeadline)
	if j := d.current.Swap(nil); j != nil {
		close(j.hung)
	}
}

// reopen opens the TPM again; d.conn tells how it went.
func (d *Device) reopen() {
	c, err := d.connect(d.ctx)
	if err != nil {
		d.down(err)
		return
	}
	d.conn, d.pause = c, reopenFirst
	if d.state.Load().err != nil {
		d.opts.Log.Info("the TPM is available", event.Key, event.TPMBack, "device", d.opts.Device)
		d.state.Store(&state{gone: make(chan struct{})})
	}
}
