package ledger

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const childEnv = "SEALSIGN_TEST_LEDGER"

// TestMain lets the test binary stand in for a daemon that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := drawUntilKilled(path); err != nil {
			fmt.Println(err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// drawUntilKilled prints each nonce. Its clock runs at a second a nonce and begins
// where it began before, so that marks are raised and files rewritten all the time.
func drawUntilKilled(path string) error {
	l, err := Open(path, Options{})
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		n, err := l.Nonce("k", noon.Add(time.Duration(i)*time.Second))
		if err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

func TestKilledAgainAndAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	rounds, total, last := 40, 0, uint64(0)
	for round := range rounds {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(20+round*3)*time.Millisecond, func() { _ = child.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); total++ {
			n, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				break // cut by the kill, or the child's error
			}
			if n <= last {
				t.Fatalf("round %d: nonce %d after %d", round, n, last)
			}
			last = n
		}
		_ = child.Wait()
	}
	if total < 10*rounds {
		t.Errorf("only %d nonces in %d rounds: the children did no work", total, rounds)
	}
}
