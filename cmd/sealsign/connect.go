package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/grpc"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// defaultConfig is what sealsignd reads where it is told of no other file.
const defaultConfig = "/etc/sealsign/sealsign.toml"

// The daemon's sockets.
const (
	adminSocket = "admin.sock"
	agentSocket = "agent.sock"
	httpSocket  = "http.sock"
)

// admin calls one method of admin.sock. Its errors are faults.
func admin[Request, Response any](ctx context.Context, a *app, call func(sealsignv1.AdminClient, context.Context, Request, ...grpc.CallOption) (Response, error), request Request) (answer Response, err error) {
	agent, err := client.DialAdmin(a.runtimeDir)
	if err != nil {
		return answer, fmt.Errorf("connect to the agent: %w", err)
	}
	defer func() { _ = agent.Close() }()
	answer, err = call(agent, ctx, request)
	return answer, a.explained(err, adminSocket)
}

// withAgent connects to agent.sock and http.sock.
func (a *app) withAgent(do func(*client.Client) error) error {
	agent, err := client.Dial(a.runtimeDir)
	if err != nil {
		return fmt.Errorf("connect to the agent: %w", err)
	}
	defer func() { _ = agent.Close() }()
	return do(agent)
}

// explained adds to an error why the agent can't be reached, where that is the error.
func (a *app) explained(err error, socket string) error {
	if !errors.Is(err, fault.AgentUnavailable) {
		return err
	}
	socket = filepath.Join(a.runtimeDir, socket)
	return unavailable(socket, probe(socket))
}

// probe connects to a socket and hangs up.
func probe(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	return conn.Close()
}

// notRunning is the next step where nobody answers.
const notRunning = "is sealsignd running? systemctl status sealsign, or without systemd: sealsignd --config " + defaultConfig

// unavailable tells why the daemon can't be reached at a socket, and what to do.
func unavailable(socket string, err error) *fault.Error {
	refusal := fault.New(fault.AgentUnavailable, "no agent answers at %s", socket).Because(err)
	switch {
	case errors.Is(err, fs.ErrPermission):
		refusal.Message = fmt.Sprintf("no permission to open %s", socket)
		refusal.Hint = permissionHint(socket)
	case errors.Is(err, fs.ErrNotExist):
		refusal.Message += ": there is no such socket"
		refusal.Hint = notRunning + "\nthe sockets may be elsewhere: --runtime-dir DIR, or $SEALSIGN_RUNTIME_DIR"
	case errors.Is(err, syscall.ECONNREFUSED):
		refusal.Message += ": the daemon that made it is gone"
		refusal.Hint = notRunning
	case err != nil:
		refusal.Message += ": " + err.Error()
		refusal.Hint = notRunning
	default: // it does answer now: it hung up on the call
		refusal.Message = fmt.Sprintf("the agent at %s closed the connection", socket)
		refusal.Hint = "its log says why: journalctl -u sealsign, or without systemd its standard error"
	}
	return refusal
}

// permissionHint names who may open a socket, or has the command line run by root.
func permissionHint(socket string) string {
	again := "sudo sealsign " + shellLine(os.Args[1:])
	info, err := os.Stat(socket)
	if err != nil {
		return again
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&0o060 != 0o060 { // not open to its group
		return again
	}
	name := strconv.Itoa(int(owner.Gid))
	if group, err := user.LookupGroupId(name); err == nil {
		name = group.Name
	}
	return fmt.Sprintf("members of the group %s may: sudo usermod -aG %s $USER, then log in again", name, name)
}

// shellLine makes a line of the arguments that a shell reads back as them.
func shellLine(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if arg == "" || strings.ContainsAny(arg, " \t\n&;|<>()$`\\\"'*?[]{}#~!") {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
