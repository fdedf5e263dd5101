package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mainKey is the head of a key's section in the stage's config.
const mainKey = "[keys.binance-main]\n"

// docsEvents are what may have happened before a block of a document is run. What a
// stage can't have is rehearsed in package test: a full disk by TestFullDisk, a TPM that
// comes back by TestTPMRestarts, another host by TestRemoteImport, recoveries of two
// instances by TestTwoEnvironmentsOnOneHost.
var docsEvents = map[string]func(*docsStage) error{
	"an import": func(d *docsStage) error {
		return d.asked("sealsign key import binance-main", "binance-hmac-sha256")
	},
	"the exchange refuses the key": func(d *docsStage) error { return d.binanceTakes(false) },
	"the exchange takes the key":   func(d *docsStage) error { return d.binanceTakes(true) },
	"the TPM was cleared": func(d *docsStage) error {
		if err := d.stop(); err != nil {
			return err
		}
		d.tpm.Clear()
		return d.start()
	},
	"an older state was put back": func(d *docsStage) error {
		state, image := filepath.Join(d.dir, "state"), filepath.Join(d.dir, "image")
		copyTo := func(from, to string) error { return exec.Command("cp", "-a", from, to).Run() }
		return errors.Join(
			d.asked("sealsign key import okx-main", "okx-hmac-sha256"),
			d.stop(), copyTo(state, image), d.start(),
			d.asked("sealsign key revoke okx-main --yes", "okx-hmac-sha256"),
			d.stop(), os.RemoveAll(state), copyTo(image, state), d.start(),
		)
	},
	"an edit names the version": func(d *docsStage) error {
		versions, err := filepath.Glob(filepath.Join(d.dir, "state", "keys", "binance-main", "*.tpm"))
		if err != nil {
			return err
		}
		newest := strings.TrimSuffix(filepath.Base(versions[len(versions)-1]), ".tpm")
		return errors.Join(d.edit(mainKey, mainKey+"version = "+newest+"\n"), d.until("sealsign key show binance-main", "\nactive       "+newest))
	},
	"an edit leaves the version out": func(d *docsStage) error {
		config, err := os.ReadFile(d.facts()["CONFIG"])
		if err != nil {
			return err
		}
		_, after, _ := strings.Cut(string(config), mainKey)
		line, _, _ := strings.Cut(after, "\n")
		return errors.Join(d.edit(mainKey+line+"\n", mainKey), d.until("sealsign audit tail -n 1", "config.loaded"))
	},
	"an edit names the recovery key": func(d *docsStage) error {
		return errors.Join(d.edit("[agent]\n", "[agent]\nrecovery = [\"ops.pub\"]\n"), d.until("sealsign audit tail -n 1", "config.loaded"))
	},
	"the TPM is gone": func(d *docsStage) error {
		err := d.asked("sealsign key import binance-main", "binance-hmac-sha256")
		d.tpm.Kill()
		return errors.Join(err, d.until("sealsign doctor || true", "problem"))
	},
	"the TPM is back": func(d *docsStage) error { d.tpm.Start(); return d.until("sealsign status", "\ntpm          ok") },
	"a record was changed": func(d *docsStage) error {
		segments, err := filepath.Glob(filepath.Join(d.dir, "state", "audit", "*.jsonl"))
		if err != nil {
			return err
		}
		return replaceIn(segments[0], `"decision":"allow"`, `"decision":"alloW"`)
	},
}

// happens has an event happen.
func (d *docsStage) happens(t *testing.T, where, event string) {
	t.Helper()
	happen := docsEvents[event]
	if happen == nil {
		t.Fatalf("%s: nothing is known of %q", where, event)
	}
	if err := happen(d); err != nil {
		t.Fatalf("%s: %s: %v", where, event, err)
	}
}

func (d *docsStage) binanceTakes(takes bool) error {
	d.venues.Disable("binance", d.venues.Credential("binance", "hmac-sha256").APIKey, !takes)
	return nil
}

// asked runs a script, which is to succeed.
func (d *docsStage) asked(script, credential string) error {
	text, err := d.shell(script, credential)
	if err != nil {
		return errors.Join(err, errors.New(string(text)))
	}
	return nil
}

// until runs a script again and again until it prints a text.
func (d *docsStage) until(script, text string) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		printed, err := d.shell(script, "binance-hmac-sha256")
		if strings.Contains(string(printed), text) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(err, errors.New("no "+text+" in "+string(printed)))
		}
	}
}

// edit replaces a text of the config.
func (d *docsStage) edit(old, text string) error {
	return replaceIn(filepath.Join(d.dir, "etc/sealsign.toml"), old, text)
}

// replaceIn replaces a text's first occurrence in a file.
func replaceIn(path, old, text string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(content), old) {
		return errors.New(path + " has no " + old)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(content), old, text, 1)), 0o600)
}
