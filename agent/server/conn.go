package server

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/internal/fault"
)

// conn is an accepted connection. Who is on its other end is asked once, and
// what it can do rests on that until it is closed.
type conn struct {
	*net.UnixConn
	who     *caller.Caller // nil: unknown, and refusal says why
	refusal error
	leave   func() // gives its place back
	arrived func() // who stops the connection knows it
	once    sync.Once
	renewed atomic.Int64 // when the write deadline was set, in Unix ns

	handshake sync.Mutex // held while its deadline is set
	shaking   bool       // gRPC's is going on
	server    *Server
}

// identify asks the kernel who is on the other end, and takes a place for it.
// An error means that there is none. A process that can't be told is let in,
// so that each of its requests gets to hear why it is refused.
func (c *conn) identify(places *places) error {
	leaveHall, err := places.enter()
	if err != nil {
		return err
	}
	c.leave = leaveHall
	if c.who, c.refusal = caller.Identify(c.UnixConn); c.who == nil {
		return nil
	}
	leaveSeat, err := places.connect(c.who.UID)
	if err != nil {
		return err
	}
	c.leave = func() { leaveSeat(); leaveHall() }
	return nil
}

// Write drops a client that takes nothing of what is written to it for
// writeTimeout. The deadline is moved once a second, since each move costs.
// gRPC leaves it to its reader to see that writing has failed, so the
// connection is closed here.
func (c *conn) Write(b []byte) (int, error) {
	now := time.Now()
	if last := c.renewed.Load(); now.UnixNano()-last > int64(time.Second) {
		if err := c.SetWriteDeadline(now.Add(writeTimeout)); err != nil {
			return 0, err
		}
		c.renewed.Store(now.UnixNano())
	}
	n, err := c.UnixConn.Write(b)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

// SetDeadline is what gRPC calls around its handshake, at the end with zero. It closes a
// connection that it hasn't come to before it is stopped, waits for handshakes then, and
// drains what comes out of them.
func (c *conn) SetDeadline(t time.Time) error {
	c.handshake.Lock()
	defer c.handshake.Unlock()
	if c.shaking = !t.IsZero(); !c.shaking {
		c.arrived()
	} else if c.server.isStopping() {
		t = time.Now().Add(stopTimeout)
	}
	c.renewed.Store(0)
	return c.UnixConn.SetDeadline(t)
}

// hurry has a handshake end soon, so that who says nothing holds no stop up.
func (c *conn) hurry() {
	c.handshake.Lock()
	defer c.handshake.Unlock()
	if c.shaking {
		_ = c.UnixConn.SetDeadline(time.Now().Add(stopTimeout))
	}
}

// Close also gives the connection's place back.
func (c *conn) Close() error {
	err := c.UnixConn.Close()
	c.arrived()
	c.once.Do(func() {
		if c.who != nil {
			_ = c.who.Close() // a descriptor that can't be closed is closed
		}
		if c.leave != nil {
			c.leave()
		}
	})
	return err
}

// listener hands out connections as conns, and counts those that are arriving.
type listener struct {
	net.Listener
	server *Server
}

func (l listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	unix, ok := accepted.(*net.UnixConn)
	if !ok {
		_ = accepted.Close()
		return nil, fault.New(fault.InternalError, "%s is not a unix socket", l.Addr())
	}
	l.server.arriving.Add(1)
	c := &conn{UnixConn: unix, server: l.server}
	unwatch := context.AfterFunc(l.server.stopping, c.hurry)
	c.arrived = sync.OnceFunc(func() {
		unwatch()
		l.server.arriving.Done()
	})
	return c, nil
}

// places counts who is connected, and what they do at once.
type places struct {
	mu          sync.Mutex
	connections int
	of          map[uint32]*uses // by uid
}

// uses are one uid's.
type uses struct {
	connections, streams int
	held                 atomic.Int64 // bytes, see maxHeld
}

// retrySoon is when a place is likely to be free again.
const retrySoon = time.Second

func full(format string, args ...any) error {
	refusal := fault.New(fault.TooManyConnections, format, args...)
	refusal.RetryAfter = retrySoon
	return refusal
}

// enter takes one of all places, before anything is known of the process.
func (p *places) enter() (leave func(), _ error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.connections == maxConnections {
		return nil, full("%d connections are open", maxConnections)
	}
	p.connections++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.connections--
	}, nil
}

// connect takes one of the uid's places.
func (p *places) connect(uid uint32) (leave func(), _ error) {
	return p.use(uid, func(u *uses) (*int, int) { return &u.connections, maxPerCaller }, "uid %d has %d connections open")
}

// stream takes one of the uid's calls and streams.
func (p *places) stream(uid uint32) (leave func(), _ error) {
	return p.use(uid, func(u *uses) (*int, int) { return &u.streams, maxStreams }, "uid %d has %d calls and streams open")
}

// held is the count of the bytes that a uid holds, good while one of its streams is open.
func (p *places) held(uid uint32) *atomic.Int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &p.of[uid].held
}

// inUse is how many connections and streams there are.
func (p *places) inUse() (connections, streams int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.of {
		streams += u.streams
	}
	return p.connections, streams
}

func (p *places) use(uid uint32, which func(*uses) (count *int, limit int), message string) (leave func(), _ error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.of[uid]
	if u == nil {
		if p.of == nil {
			p.of = make(map[uint32]*uses)
		}
		u = new(uses)
		p.of[uid] = u
	}
	count, limit := which(u)
	if *count == limit {
		return nil, full(message, uid, limit)
	}
	*count++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		*count--
		if u.connections == 0 && u.streams == 0 {
			delete(p.of, uid)
		}
	}, nil
}
