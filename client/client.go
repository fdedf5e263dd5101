// Package client is how a Go program uses the sealsign agent of its host. The
// program holds no key: it asks the agent over Unix sockets.
//
// There are two ways. Forwarding needs one changed line, since the agent sends
// the request and streams the venue's answer back:
//
//	exchange := &http.Client{Transport: client.Transport("binance-main")}
//	response, err := exchange.Get("https://api.binance.com/api/v3/account")
//
// Release gives the program the signed request, which it sends itself. It is
// for callers whose role allows it, and the faster way:
//
//	agent, err := client.Dial("")
//	signed, err := agent.Sign(ctx, &client.Request{Key: "okx-main", Method: "GET", URL: "https://www.okx.com/api/v5/account/balance"})
//
// A refusal is an [*Error] that names its reason, comparable with [errors.Is]:
//
//	if errors.Is(err, client.KeySuspended) { … }
package client

import (
	"cmp"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// DefaultDir is where the agent's sockets are, unless $SEALSIGN_RUNTIME_DIR says otherwise.
const DefaultDir = "/run/sealsign"

// Dir is the folder of the agent's sockets: dir, or $SEALSIGN_RUNTIME_DIR where
// dir is empty, or DefaultDir where that is too.
func Dir(dir string) string {
	return cmp.Or(dir, os.Getenv("SEALSIGN_RUNTIME_DIR"), DefaultDir)
}

// Client asks the agent to sign. It is safe for concurrent use, keeps one
// connection, and connects anew when the agent was restarted.
type Client struct {
	dir    string
	socket string
	conn   *grpc.ClientConn
	signer pb.SignerClient

	mu     sync.Mutex
	stream *stream // the one in use; nil before the first request
}

// Dial makes a client of the agent whose sockets are in dir; see Dir for an
// empty one. It doesn't wait for the agent: an agent that can't be reached is
// an AgentUnavailable error of the first request.
func Dial(dir string) (*Client, error) {
	dir = Dir(dir)
	socket := filepath.Join(dir, "agent.sock")
	conn, err := dial(socket)
	if err != nil {
		return nil, err
	}
	return &Client{dir: dir, socket: socket, conn: conn, signer: pb.NewSignerClient(conn)}, nil
}

// Close ends the connection. Requests that wait for an answer fail.
func (c *Client) Close() error { return c.conn.Close() }

// Request is one call of a venue's API.
type Request struct {
	Key    string      // may be empty where the caller has one key for the host only
	Method string      // GET, POST, …
	URL    string      // https, with path and query as they are to be sent
	Header http.Header // may be nil; the venue's auth fields in it are replaced
	Body   []byte      // as it is to be sent, at most 1 MiB
}

// Signed is a request as the venue wants it. It has to be sent soon, and unchanged.
type Signed struct {
	Method     string
	URL        string
	Header     map[string]string // each field once, named as the venue writes it
	Body       []byte
	KeyVersion int
	RecordID   string // of the decision in the agent's audit log
}

// Login is what logs a WebSocket of the venue in.
type Login struct {
	Message    []byte // to be sent as it is, as the first message
	URL        string // the venue's WebSocket address
	KeyVersion int
	RecordID   string
}

// Login asks for the message that logs in to the channel, which may be empty
// where the venue has one login for all.
func (c *Client) Login(ctx context.Context, key, channel string) (*Login, error) {
	answer, err := c.signer.Login(ctx, &pb.LoginRequest{Key: key, Channel: channel})
	if err != nil {
		return nil, err
	}
	return &Login{Message: answer.GetMessage(), URL: answer.GetUrl(), KeyVersion: int(answer.GetKeyVersion()), RecordID: answer.GetRecordId()}, nil
}

// Key is a key that one of the caller's roles names.
type Key struct {
	Name        string
	Venue       string
	Environment string
	State       string // "active", or why it can't sign
	Hosts       []string
	Grants      []Grant
}

// Grant is what one role allows with a key.
type Grant struct {
	Role    string
	Allow   []string // operations, and exact "METHOD /path" lines
	Symbols []string // empty: any
	Rate    string   // as in "50/s"; empty: unlimited
	Release string   // "never", "bound" or "unbound"
}

// Keys lists the keys that the calling program may use.
func (c *Client) Keys(ctx context.Context) ([]Key, error) {
	answer, err := c.signer.ListKeys(ctx, &pb.ListKeysRequest{})
	if err != nil {
		return nil, err
	}
	keys := make([]Key, 0, len(answer.GetKeys()))
	for _, k := range answer.GetKeys() {
		key := Key{Name: k.GetName(), Venue: k.GetVenue(), Environment: k.GetEnvironment(), State: k.GetState(), Hosts: k.GetHosts()}
		for _, g := range k.GetGrants() {
			key.Grants = append(key.Grants, Grant{g.GetRole(), g.GetAllow(), g.GetSymbols(), g.GetRate(), g.GetRelease()})
		}
		keys = append(keys, key)
	}
	return keys, nil
}

const (
	// streamWindow and connWindow, being set, switch off gRPC's bandwidth probes, which cost two
	// frames in each round trip.
	streamWindow = 128 << 10
	connWindow   = 512 << 10
	// reconnectAfter and reconnectAtMost: the agent is on this host, and back soon after a restart.
	reconnectAfter  = 50 * time.Millisecond
	reconnectAtMost = time.Second
	connectTimeout  = 5 * time.Second
)

// dial makes a connection to a socket of the agent whose calls fail with *Errors.
func dial(socket string) (*grpc.ClientConn, error) {
	socket, err := filepath.Abs(socket)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the kernel tells either side who the other is
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectAfter, Multiplier: 2, Jitter: 0.2, MaxDelay: reconnectAtMost},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption) error {
			if err := call(ctx, method, request, answer, conn, options...); err != nil {
				return refusalOf(err, socket)
			}
			return nil
		}))
}
