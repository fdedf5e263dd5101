package audit

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

const (
	childEnv = "SEALSIGN_TEST_AUDIT"      // the folder of the log
	modeEnv  = "SEALSIGN_TEST_AUDIT_SYNC" // its Options.Sync; "full": fill a small disk
)

// TestMain lets the test binary stand in for a daemon.
func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	run := recordUntilKilled
	if os.Getenv(modeEnv) == "full" {
		run = fillDisk
	}
	if err := run(dir, os.Getenv(modeEnv)); err != nil {
		fmt.Println("child:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(t *testing.T, dir, mode string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, modeEnv+"="+mode)
	cmd.Stderr = os.Stderr
	return cmd
}

// recordUntilKilled prints the id and path of each record once it is acknowledged.
func recordUntilKilled(dir, mode string) error {
	opts := Options{Sync: mode, SegmentSize: 50000, Origin: "kill.example", Checkpoint: 5 * time.Millisecond}
	l, err := Open(dir, opts)
	if err != nil {
		return err
	}
	l.SetSigner(&testKey.PublicKey, signWith(testKey)) // of this process: a new key each time
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				r := sample()
				r.Path = fmt.Sprintf("/%d/%d/%d", os.Getpid(), w, i)
				id, err := l.Append(r, i%20 == 0)
				if err != nil {
					fmt.Println("child:", err)
					return
				}
				fmt.Printf("%d %s\n", id, r.Path)
			}
		})
	}
	wg.Wait()
	return nil
}

func TestKilledAgainAndAgain(t *testing.T) {
	for _, mode := range []string{SyncGroup, SyncInterval} {
		t.Run(mode, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			acked := map[uint64]string{}
			const rounds = 12
			for round := range rounds {
				cmd := child(t, dir, mode)
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(time.Duration(60+round*5)*time.Millisecond, func() { _ = cmd.Process.Kill() })
				for lines := bufio.NewScanner(out); lines.Scan(); {
					var id uint64
					var path string
					if _, err := fmt.Sscanf(lines.Text(), "%d %s", &id, &path); err != nil {
						t.Fatal(lines.Text())
					}
					acked[id] = path
				}
				_ = cmd.Wait()
			}
			if len(acked) < 20*rounds {
				t.Errorf("only %d records: the children did no work", len(acked))
			}
			_ = openLog(t, dir, signed(Options{})).Close()
			report, err := Verify(dir)
			if err != nil || !report.OK() {
				t.Fatalf("%+v, %v", report, err)
			}
			for _, r := range readAll(t, dir) {
				if path, ok := acked[r.ID]; ok && path != r.Path {
					t.Fatalf("record %d is of %s, acknowledged was %s", r.ID, r.Path, path)
				}
				delete(acked, r.ID)
			}
			if len(acked) > 0 {
				t.Errorf("%d acknowledged records are lost", len(acked))
			}
		})
	}
}

// fillDisk fills a disk of its own with records. Cancels and administrative acts
// still go in when no other record does, and all do once there is space again.
func fillDisk(dir, _ string) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=10m"); err != nil {
		return err
	}
	clock := time.Now()
	l, err := Open(filepath.Join(dir, "audit"), signed(Options{Sync: SyncInterval, SegmentSize: 300000, Now: func() time.Time { return clock }}))
	if err != nil {
		return err
	}
	var full error
	for full == nil {
		_, full = l.Append(sample(), false)
	}
	if !errors.Is(full, fault.AuditUnavailable) || !errors.Is(full, syscall.ENOSPC) {
		return fmt.Errorf("full: %w", full)
	}
	cancel := sample()
	cancel.Operation = opCancel
	for i := range 8000 {
		if _, err := l.Append(cancel, i%100 == 0); err != nil {
			return fmt.Errorf("cancel %d: %w", i, err)
		}
	}
	if _, err := l.Append(&Record{Kind: KindAdmin, Operation: "key.revoke"}, true); err != nil {
		return err
	}
	if _, err := l.Append(sample(), false); !errors.Is(err, fault.AuditUnavailable) {
		return fmt.Errorf("a trade on a full disk: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=30m"); err != nil {
		return err
	}
	clock = clock.Add(time.Minute)
	if _, err := l.Append(sample(), false); err != nil {
		return fmt.Errorf("with space again: %w", err)
	}
	if err := l.Close(); err != nil {
		return err
	}
	report, err := Verify(filepath.Join(dir, "audit"))
	if err == nil && (!report.OK() || report.Beyond() > 0) {
		err = fmt.Errorf("%+v", report)
	}
	return err
}

func TestARealFullDisk(t *testing.T) {
	cmd := child(t, t.TempDir(), "full")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.Output()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(out), "operation not permitted") {
		t.Skip("this host allows no user namespaces with mounts; the same is tested with injected faults")
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
