//go:build integration

package test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/daemontest"
)

// crashes is how often the daemon is killed under load.
const crashes = 100

// TestKilledUnderLoad kills the daemon a hundred times while eight clients have
// Kraken requests signed. The store opens each time, every answered request is
// in the log, and no nonce was given twice.
func TestKilledUnderLoad(t *testing.T) {
	d := daemontest.Start(t, fmt.Sprintf(`
[audit]
sync = "interval"
[keys.kraken]
venue = "kraken"
environment = "testnet"
[roles.all]
keys = ["kraken"]
allow = ["read"]
release = "bound"
[callers.me]
uid = %d
roles = ["all"]
`, os.Getuid()))
	d.Import("kraken", d.Venues.Credential("kraken", "hmac-sha512"))
	answers := make(map[string]string) // nonce by record id
	for round := range crashes {
		nonces := load(t, d, time.Duration(5+round%20)*time.Millisecond)
		d.Restart()
		for record, nonce := range nonces {
			if before, twice := answers[record]; twice {
				t.Fatalf("round %d: record %s stands for nonces %s and %s", round, record, before, nonce)
			}
			answers[record] = nonce
		}
	}
	if len(answers) < crashes {
		t.Fatalf("%d answers in %d rounds: there was no load", len(answers), crashes)
	}
	given := make(map[string]bool)
	for _, nonce := range answers {
		if given[nonce] {
			t.Errorf("nonce %s was given twice", nonce)
		}
		given[nonce] = true
	}
	recorded := make(map[string]bool)
	for _, record := range d.Records() {
		if record["kind"] == "decision" && record["decision"] == "allow" {
			recorded[strconv.FormatFloat(record["id"].(float64), 'f', 0, 64)] = true
		}
	}
	for record := range answers {
		if !recorded[record] {
			t.Errorf("record %s of an answered request is not in the log", record)
		}
	}
	d.Must("audit", "checkpoint")
	t.Log(d.Must("audit", "verify", d.State+"/audit"))
	t.Logf("%d answered requests", len(answers))
}

// load has eight clients sign until the daemon, killed after a while, is gone.
func load(t *testing.T, d *daemontest.Daemon, alive time.Duration) map[string]string {
	agent, err := client.Dial(d.Run)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = agent.Close() }()
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	nonces := make(map[string]string)
	var clients sync.WaitGroup
	first := make(chan struct{})
	var once sync.Once
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				signed, err := agent.Sign(ctx, &client.Request{Key: "kraken", Method: "POST", URL: d.URL("kraken", "/0/private/Balance")})
				if err != nil {
					continue
				}
				mu.Lock()
				nonces[signed.RecordID] = string(signed.Body)
				mu.Unlock()
				once.Do(func() { close(first) })
			}
		})
	}
	select {
	case <-first:
	case <-time.After(20 * time.Second):
		t.Error("no request was answered")
	}
	time.Sleep(alive)
	d.Kill()
	stop()
	clients.Wait()
	return nonces
}
