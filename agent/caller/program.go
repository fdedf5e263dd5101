package caller

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sealsign/sealsign/internal/fault"
)

// maxProgram is the longest program that is hashed: above the largest that
// bots are packed into, and a bound to the work that one connection can ask for.
const maxProgram = 1 << 30

// Exe is the path of the running program, read once. A program that was
// replaced since it started ends in " (deleted)". Other users' programs are
// readable only with CAP_SYS_PTRACE; the error says so.
func (c *Caller) Exe() (string, error) { return c.exe() }

// SHA256 is the hash (lower-case hex) of the running program's file, read once,
// under the same condition as Exe.
func (c *Caller) SHA256() (string, error) { return c.sha256() }

func (c *Caller) exePath() string { return fmt.Sprintf("/proc/%d/exe", c.PID) }

func (c *Caller) readExe() (string, error) {
	path, err := os.Readlink(c.exePath())
	return path, c.checkProgram(err)
}

func (c *Caller) hashExe() (string, error) {
	sum, err := hashFile(c.exePath())
	return sum, c.checkProgram(err)
}

func hashFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(file, maxProgram+1))
	if err != nil {
		return "", err
	}
	if n > maxProgram {
		return "", fmt.Errorf("the program has more than %d bytes", maxProgram)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// checkProgram: what was read by pid was the caller's only if it still lives.
func (c *Caller) checkProgram(err error) error {
	if goneErr := c.Alive(); goneErr != nil {
		return goneErr
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.CallerUnknown, "sealsignd may not read the program of process %d", c.PID).Because(err).
			WithHint("give sealsignd CAP_SYS_PTRACE (under systemd by the drop-in callers-by-program.conf), or name the caller by user and unit alone")
	}
	return fault.New(fault.CallerUnknown, "the program of process %d can't be read", c.PID).Because(err)
}
