package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func TestCredentialOnStandardInput(t *testing.T) {
	for _, test := range []struct {
		name, in, refused string
	}{
		{"an object", `{"api_key":"k","secret":"s"}`, ""},
		{"an object with space around it", " {\n} \n", ""},
		{"nothing", "", "is empty"},
		{"only space", " \n", "is empty"},
		{"the secret itself", "hunter2", "not one JSON object"},
		{"a list", `[{}]`, "not one JSON object"},
		{"two objects", `{}{}`, "not one JSON object"},
		{"an object cut short", `{"api_key":"k`, "not one JSON object"},
		{"just within the limit", `{"api_key":"` + strings.Repeat("x", maxCredential-14) + `"}`, ""},
		{"one byte over the limit", `{"api_key":"` + strings.Repeat("x", maxCredential-13) + `"}`, "over 64 KiB"},
		{"a mebibyte", strings.Repeat("x", 1<<20), "over 64 KiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readCredentialJSON(strings.NewReader(test.in))
			if test.refused == "" {
				if err != nil || string(got) != strings.TrimSpace(test.in) {
					t.Fatalf("got %d bytes, %v", len(got), err)
				}
				return
			}
			if !errors.Is(err, fault.BadRequest) || !strings.Contains(err.Error(), test.refused) {
				t.Fatalf("got %v, want %q", err, test.refused)
			}
			if strings.Contains(err.Error()+fault.From(err).Hint, "hunter2") {
				t.Errorf("%v shows the input", err)
			}
		})
	}
}

func TestFieldsThatAreAskedFor(t *testing.T) {
	for _, test := range []struct {
		venue, algorithm, protection, want string
	}{
		{"binance", "hmac-sha256", "sealed", "api_key secret"},
		{"binance", "ed25519", "sealed", "api_key private_key"},
		{"binance", "rsa-sha256", "generated", "api_key"},
		{"okx", "hmac-sha256", "resident", "api_key secret passphrase"},
		{"coinbase-cdp", "es256", "sealed", "api_key private_key"},
		{"tokenmetrics", "none", "sealed", "api_key"},
		{"acme", "hmac-sha512", "sealed", "api_key secret passphrase?"},
	} {
		var got []string
		for _, f := range fieldsOf(&sealsignv1.Key{Venue: test.venue, Algorithm: test.algorithm, Protection: test.protection}) {
			got = append(got, f.name+either(f.optional, "?", ""))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s %s %s: got %v, want %s", test.venue, test.algorithm, test.protection, got, test.want)
		}
	}
}

const testPEM = "-----BEGIN PRIVATE KEY-----\nRkFLRQ==\n-----END PRIVATE KEY-----\n"

func TestPromptReadsEachFieldWithoutEcho(t *testing.T) {
	secret, key := field{name: "secret", label: "secret"}, field{name: "private_key", label: "key", pem: true}
	for _, test := range []struct {
		name   string
		fields []field
		typed  string
		want   map[string]string
	}{
		{"a line", []field{secret}, "FAKE\"\\\tsecret\n", map[string]string{"secret": "FAKE\"\\\tsecret"}},
		{"a key of several lines, then another field", []field{key, secret}, testPEM + "FAKE\n", map[string]string{"private_key": testPEM, "secret": "FAKE"}},
		{"a key with its line ends escaped", []field{key}, strings.ReplaceAll(testPEM, "\n", `\n`) + "\n", map[string]string{"private_key": testPEM}},
		{"a key in one line of base64", []field{key}, "RkFLRQ==\n", map[string]string{"private_key": "RkFLRQ=="}},
		{"an optional field left empty", []field{secret, {name: "passphrase", label: "p", optional: true}}, "FAKE\n\n", map[string]string{"secret": "FAKE"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			screen, typist := openTerminal(t)
			object, err := prompt(t, screen, typist, test.fields, test.typed)
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]string
			if err := json.Unmarshal(object, &got); err != nil {
				t.Fatalf("%s: %v", object, err)
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestPromptRefuses(t *testing.T) {
	secret := []field{{name: "secret", label: "secret"}}
	key := []field{{name: "private_key", label: "key", pem: true}}
	endless := "-----BEGIN PRIVATE KEY-----\n" + strings.Repeat(strings.Repeat("A", 1000)+"\n", 70)
	for _, test := range []struct {
		name   string
		fields []field
		typed  string
		want   string
	}{
		{"an empty field", secret, "\n", "is empty"},
		{"the end of input", secret, "\x04", "ended before"},
		{"a key without an end", key, "-----BEGIN PRIVATE KEY-----\nRkFLRQ==\n\x04", "ended before"},
		{"an endless key", key, endless, "over 64 KiB"},
		{"what isn't text", secret, "\xff\xfe\n", "not UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			screen, typist := openTerminal(t)
			_, err := prompt(t, screen, typist, test.fields, test.typed)
			if !errors.Is(err, fault.BadRequest) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestASignalEndsThePromptAndRestoresTheEcho(t *testing.T) {
	screen, typist := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := promptCredential(ctx, typist, io.Discard, []field{{name: "secret", label: "secret"}})
		ended <- err
	}()
	waitForEcho(t, typist, false)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !echoes(t, typist) {
		t.Error("the terminal stays silent")
	}
	typeText(t, screen, "\n") // ends the read that is left
}

// prompt types into a terminal once its echo is off, and fails where the screen shows any of it.
func prompt(t *testing.T, screen, typist *os.File, fields []field, typed string) ([]byte, error) {
	t.Helper()
	shown := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(screen) // until the other end is closed
		shown <- all
	}()
	go func() {
		waitForEcho(t, typist, false)
		typeText(t, screen, typed)
	}()
	object, err := promptCredential(t.Context(), typist, io.Discard, fields)
	if !echoes(t, typist) {
		t.Error("the terminal stays silent")
	}
	typist.Close()
	if screen := <-shown; bytes.Contains(screen, []byte("FAKE")) || bytes.Contains(screen, []byte("RkFLRQ")) {
		t.Errorf("the terminal shows %q", screen)
	}
	return object, err
}

// openTerminal makes a pseudo-terminal: what is written to screen is typed at typist.
func openTerminal(t *testing.T) (screen, typist *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	typist, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { typist.Close() })
	return screen, typist
}

func typeText(t *testing.T, screen *os.File, text string) {
	t.Helper()
	if _, err := screen.WriteString(text); err != nil {
		t.Error(err)
	}
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Error(err)
		return false
	}
	return state.Lflag&unix.ECHO != 0
}

func waitForEcho(t *testing.T, terminal *os.File, want bool) {
	t.Helper()
	for range 1000 {
		if echoes(t, terminal) == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("the terminal's echo is not %t after a second", want)
}
