package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/daemontest"
	"github.com/sealsign/sealsign/internal/mockvenue"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// manyKeys are so many keys of okx, which a role of that many may use, and
// callers of uids from firstUID on.
func manyKeys(keys, callers int) string {
	var text strings.Builder
	names := make([]string, keys)
	for i := range keys {
		names[i] = fmt.Sprintf("%q", keyName(i))
		fmt.Fprintf(&text, "[keys.%s]\nvenue = \"okx\"\nenvironment = \"testnet\"\nprobe = \"off\"\n", keyName(i))
	}
	fmt.Fprintf(&text, "[roles.all]\nkeys = [%s]\nallow = [\"read\"]\nrelease = \"bound\"\n", strings.Join(names, ", "))
	for i := range callers {
		fmt.Fprintf(&text, "[callers.c%d]\nuid = %d\nroles = [\"all\"]\n", i, firstUID+i)
	}
	return text.String()
}

func keyName(i int) string { return fmt.Sprintf("key-%05d", i) }

// firstUID is the first of the users that the test connects as.
const firstUID = 61000

// imports imports a credential for each of the keys.
func imports(b *testing.B, d *daemontest.Daemon, keys int) {
	b.Helper()
	admin, err := client.DialAdmin(d.Run)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	for i := range keys {
		credential := d.Venues.Credential("okx", "hmac-sha256").JSON()
		if _, err := admin.ImportKey(b.Context(), &pb.ImportKeyRequest{Name: keyName(i), Credential: credential}); err != nil {
			b.Fatal(err)
		}
	}
}

// residentMB is how much memory a process takes, in MB.
func residentMB(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) * 1024 / 1e6
}

// BenchmarkMemory is what the daemon's memory comes to: idle with ten keys, and
// with 1,000 keys loaded and 1,000 connections open, half of them streams of
// agent.sock and half of http.sock, each of which has had a request answered.
func BenchmarkMemory(b *testing.B) {
	b.Run("keys=10/idle", func(b *testing.B) {
		for b.Loop() {
			d := daemontest.Start(b, manyKeys(10, 0))
			imports(b, d, 10)
			b.ReportMetric(residentMB(b, d.PID()), "MB")
			d.Stop()
		}
		b.ReportMetric(0, "ns/op")
	})
	b.Run("keys=1000/connections=1000", func(b *testing.B) {
		for b.Loop() {
			thousand(b)
		}
		b.ReportMetric(0, "ns/op")
	})
}

func thousand(b *testing.B) {
	const keys, users, each = 1000, 5, 200 // a user may have 256
	d := daemontest.Start(b, manyKeys(keys, users))
	imports(b, d, keys)
	release, forward := filepath.Join(d.Run, "agent.sock"), filepath.Join(d.Run, "http.sock")
	for path, mode := range map[string]os.FileMode{d.Dir: 0o755, release: 0o666, forward: 0o666} {
		if err := os.Chmod(path, mode); err != nil { // so that the users get there
			b.Fatal(err)
		}
	}
	for i := range users * each {
		uid, key, host := firstUID+i/each, keyName(i), d.Venues.Host("okx")
		if i%2 == 0 {
			signs(b, release, uid, key, host)
		} else {
			sends(b, forward, uid, key, host)
		}
	}
	b.ReportMetric(residentMB(b, d.PID()), "MB")
	if n := d.Venues.Seen("okx").Accepted[mockvenue.Read]; n != users*each/2 {
		b.Errorf("%d requests reached the venue", n)
	}
}

// signs has a request signed over a stream of its own, which stays open.
func signs(b *testing.B, socket string, uid int, key, host string) {
	b.Helper()
	conn, err := grpc.NewClient("passthrough:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return dialAs(uid, socket) }))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	stream, err := pb.NewSignerClient(conn).SignStream(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := stream.Send(&pb.SignRequest{Key: key, Method: "GET", Url: "https://" + host + "/api/v5/account/balance"}); err != nil {
		b.Fatal(err)
	}
	if answer, err := stream.Recv(); err != nil || answer.GetStatus() != nil {
		b.Fatal(answer, err)
	}
}

// sends has a request forwarded over a connection of its own, which stays open.
func sends(b *testing.B, socket string, uid int, key, host string) {
	b.Helper()
	conn, err := dialAs(uid, socket)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "GET /api/v5/account/balance HTTP/1.1\r\nHost: %s\r\nSealsign-Key: %s\r\n\r\n", host, key); err != nil {
		b.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		b.Fatal(response.Status, err)
	}
}

// dialAs connects as another user: the kernel tells who a thread was when it connected.
func dialAs(uid int, socket string) (net.Conn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	become := func(uid int) error {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			return fmt.Errorf("becoming user %d, which needs root: %w", uid, errno)
		}
		return nil
	}
	own := os.Geteuid()
	if err := become(uid); err != nil {
		return nil, err
	}
	conn, err := net.Dial("unix", socket)
	return conn, errors.Join(err, become(own))
}
