package systemd

import (
	"net"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/internal/fault"
)

// Sockets are the listening sockets that systemd opened for the daemon, by their
// FileDescriptorName, which is one of names: sd_listen_fds(3). Nil: there are none, and
// the daemon opens its own. A socket's file stays when it is closed; its mode and group
// are the socket unit's.
func Sockets(names ...string) (map[string]net.Listener, error) {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, nil
	}
	sockets := make(map[string]net.Listener, len(files))
	for _, file := range files {
		name := file.Name()
		if !slices.Contains(names, name) || sockets[name] != nil {
			return nil, fault.New(fault.ConfigInvalid, "systemd hands over a socket %q", name).
				WithHint("FileDescriptorName= of each socket unit is one of %s, and no two have the same", strings.Join(names, ", "))
		}
		l, err := listenerOf(file)
		if err != nil {
			return nil, fault.New(fault.ConfigInvalid, "the socket %q that systemd hands over is no listening unix stream socket", name).
				WithHint("its socket unit has ListenStream=PATH and Accept=no").Because(err)
		}
		sockets[name] = l
	}
	return sockets, nil
}

// listenerOf makes sure of what the socket is, since other kinds would be served too.
func listenerOf(file *os.File) (net.Listener, error) {
	defer file.Close() // the listener has a descriptor of its own
	for option, want := range map[int]int{unix.SO_DOMAIN: unix.AF_UNIX, unix.SO_TYPE: unix.SOCK_STREAM, unix.SO_ACCEPTCONN: 1} {
		got, err := unix.GetsockoptInt(int(file.Fd()), unix.SOL_SOCKET, option)
		if err != nil {
			return nil, err
		}
		if got != want {
			return nil, unix.EPROTOTYPE
		}
	}
	return net.FileListener(file)
}
