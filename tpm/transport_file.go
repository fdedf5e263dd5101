package tpm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// file speaks to the kernel's TPM driver: one write is one command, one read
// its answer. It is opened blocking on purpose. The driver then works inside
// write(2) with time limits of its own per command, and Go's poller, which
// takes the driver's "no answer yet" for the end of the file, stays out.
type file struct {
	file     *os.File
	response []byte
}

func openFile(path string) (Transport, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	info, err := f.Stat()
	if err == nil && info.Mode()&os.ModeCharDevice == 0 {
		err = fmt.Errorf("%s is not a device (a TPM behind a socket is written unix:%s)", path, path)
	}
	if err != nil {
		_ = f.Close() // the error that is told is the one above
		return nil, err
	}
	return &file{file: f, response: make([]byte, maxMessage)}, nil
}

// Close takes effect when a command under way has come back.
func (f *file) Close() error { return f.file.Close() }

func (f *file) Send(command []byte) ([]byte, error) {
	if _, err := f.file.Write(command); err != nil {
		return nil, err
	}
	n, err := f.file.Read(f.response)
	if err != nil {
		return nil, err
	}
	return f.response[:n], nil
}
