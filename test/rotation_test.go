//go:build integration

package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/daemontest"
	"github.com/sealsign/sealsign/internal/mockvenue"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

const (
	rotations = 100
	// importEach: each so many of them is the import of another credential.
	importEach = 20
	// drains is how long a version that was replaced serves what began with it.
	drains = 10 * time.Second
)

// operator rotates the key okx of a daemon.
type operator struct {
	*testing.T
	daemon   *daemontest.Daemon
	admin    *client.Admin
	versions []mockvenue.Credential // imported so far, the first is version 1
}

// rotated is a config with the version that signs; 0: the newest import does.
func rotated(version int) string {
	chosen := ""
	if version != 0 {
		chosen = fmt.Sprintf("version = %d\n", version)
	}
	return fmt.Sprintf(`
[audit]
sync = "interval"
[keys.okx]
venue = "okx"
environment = "testnet"
%s
[roles.all]
keys = ["okx"]
allow = ["read"]
release = "bound"
[callers.me]
uid = %d
roles = ["all"]
`, chosen, os.Getuid())
}

func (o *operator) imports() {
	o.Helper()
	credential := o.daemon.Venues.Issue("okx", "hmac-sha256")
	o.daemon.Import("okx", credential)
	o.versions = append(o.versions, credential)
}

// active waits until a version signs.
func (o *operator) active(version int) {
	o.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		answer, err := o.admin.ListKeys(o.Context(), &pb.AdminListKeysRequest{})
		if err != nil {
			o.Fatal(err)
		}
		key := answer.GetKeys()[0]
		if int(key.GetActive()) == version {
			return
		}
		if time.Now().After(deadline) {
			o.Fatalf("version %d signs, want %d: %s", key.GetActive(), version, key.GetProblem())
		}
	}
}

// rotates makes another version sign: the n-th time.
func (o *operator) rotates(n int) {
	o.Helper()
	if n%importEach != 0 {
		version := 1 + n%len(o.versions)
		o.daemon.Write(rotated(version))
		o.active(version)
		return
	}
	o.daemon.Write(rotated(0)) // the newest signs, and then the one that comes
	o.active(len(o.versions))
	o.imports()
	o.active(len(o.versions))
}

// A hundred rotations under full load over both sockets lose no request, and no version
// signs before its switch, nor anything that began after another had long taken its place.
func TestAHundredRotations(t *testing.T) {
	o := &operator{T: t, daemon: daemontest.Start(t, rotated(0))}
	d := o.daemon
	var err error
	if o.admin, err = client.DialAdmin(d.Run); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.admin.Close() }()
	for range 5 {
		o.imports()
	}
	o.active(5)

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var forwarded, released atomic.Int64
	for i := range 8 {
		clients.Go(func() {
			if i%2 == 0 {
				forwards(ctx, t, d, &forwarded)
			} else {
				releases(ctx, t, d, &released)
			}
		})
	}
	began := time.Now()
	for n := range rotations {
		o.rotates(n + 1)
	}
	took := time.Since(began)
	stop()
	clients.Wait()
	t.Logf("%d rotations in %v, during %d forwarded and %d released requests", rotations, took.Round(time.Millisecond), forwarded.Load(), released.Load())
	if forwarded.Load() < rotations || released.Load() < rotations {
		t.Error("there was little load")
	}
	if problems := d.Venues.Seen("okx").Problems; len(problems) > 0 {
		t.Errorf("the venue refused %q", problems)
	}
	d.Stop() // so that all of the log is on disk
	o.judges(d.Records())
}

// forwards has requests sent, one after the other, each of which is to be answered by the venue.
func forwards(ctx context.Context, t *testing.T, d *daemontest.Daemon, done *atomic.Int64) {
	agent, err := client.Dial(d.Run)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = agent.Close() }()
	exchange := &http.Client{Transport: agent.Transport("okx")}
	for ctx.Err() == nil {
		response, err := exchange.Get(d.URL("okx", "/api/v5/account/balance"))
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || response.Header.Get("Sealsign-Reason") != "" {
			t.Errorf("forwarded: %s, %v: %s", response.Status, err, body)
			return
		}
		done.Add(1)
	}
}

// releases has requests signed, over one stream.
func releases(ctx context.Context, t *testing.T, d *daemontest.Daemon, done *atomic.Int64) {
	agent, err := client.Dial(d.Run)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = agent.Close() }()
	for ctx.Err() == nil {
		signed, err := agent.Sign(t.Context(), &client.Request{Key: "okx", Method: http.MethodGet, URL: d.URL("okx", "/api/v5/account/balance")})
		if err != nil {
			t.Errorf("released: %v", err)
			return
		}
		if name := signed.Header["OK-ACCESS-KEY"]; !strings.HasSuffix(name, fmt.Sprintf("-%d", signed.KeyVersion+1)) { // Issue counts from 2
			t.Errorf("version %d signed with the API key %s", signed.KeyVersion, name)
		}
		done.Add(1)
	}
}

// reign is the time from which a version signs.
type reign struct {
	version int
	from    time.Time
}

// judges holds each decision against the switches that the log tells of, and the
// count of what each version signed against what the venue saw.
func (o *operator) judges(records []map[string]any) {
	o.Helper()
	var reigns []reign
	sent := make(map[string]int)
	switches := 0
	for _, r := range records {
		at, err := time.Parse(time.RFC3339Nano, r["time"].(string))
		if err != nil {
			o.Fatal(err)
		}
		version := int(r["version"].(float64))
		switch {
		case r["operation"] == "key.switch":
			reigns = append(reigns, reign{version, at})
			switches++
		case r["kind"] == "outcome" && r["sent"] == "yes":
			sent[o.versions[version-1].APIKey]++
		case r["kind"] == "decision" && r["caller"] == "me" && r["decision"] != "allow":
			o.Errorf("refused: %v", r)
		case r["kind"] == "decision" && r["caller"] == "me" && !signs(reigns, version, at):
			o.Errorf("record %v is of version %d, and before it there were %v", r["id"], version, reigns[max(0, len(reigns)-4):])
		}
	}
	if switches < rotations {
		o.Errorf("of %d rotations %d are in the log", rotations, switches)
	}
	if seen := o.daemon.Venues.Seen("okx").Signed; fmt.Sprint(seen) != fmt.Sprint(sent) {
		o.Errorf("by the log each version's requests were sent so often: %v, and the venue saw %v", sent, seen)
	}
}

// signs tells whether a request that began at a time may be a version's: of the one that
// signed then, the one before it while that drains, or one that has come since.
func signs(reigns []reign, version int, began time.Time) bool {
	for i, r := range reigns {
		drained := i+1 < len(reigns) && !reigns[i+1].from.Add(drains).After(began)
		overtaken := i+2 < len(reigns) && !reigns[i+2].from.After(began)
		if r.version == version && !drained && !overtaken {
			return true
		}
	}
	return false
}
