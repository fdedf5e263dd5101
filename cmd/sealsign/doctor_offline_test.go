package main

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhoMayOpenADevice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tpmrm0")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	stranger := &user.User{Uid: "4242", Gid: "4242", Username: "nobody-at-all"}
	for _, test := range []struct {
		who  *user.User
		mode fs.FileMode
		may  bool
	}{
		{me, 0o600, true},
		{&user.User{Uid: "0"}, 0o000, true},
		{stranger, 0o660, false},
		{stranger, 0o604, false},
		{stranger, 0o606, true},
	} {
		if err := os.Chmod(file, test.mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if may := may(test.who, info, 0o6); may != test.may {
			t.Errorf("mode %04o, uid %s: %v", test.mode, test.who.Uid, may)
		}
	}
}

// Nobody is told to put the daemon into root's group.
func TestADeviceOfRootsGroup(t *testing.T) {
	device := filepath.Join(t.TempDir(), "tpmrm0")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := &user.User{Uid: "4242", Gid: "4242", Username: "nobody-at-all"}
	for gid, want := range map[int]string{0: "udev", os.Getgid() + 1: "sudo usermod -aG "} {
		if err := os.Chown(device, -1, gid); err != nil {
			t.Fatalf("this test gives a file to other groups and needs root: %v", err)
		}
		var o offline
		o.examineDevice(device, stranger)
		if len(o) != 1 || !strings.Contains(o[0].Next, want) {
			t.Errorf("group %d: %+v", gid, o)
		}
	}
}
