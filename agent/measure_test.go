package agent_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/metrics"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/mockvenue"
)

// scrape reads the metrics as Prometheus does: values by name and labels.
func (s *stage) scrape() map[string]float64 {
	s.Helper()
	answer := httptest.NewRecorder()
	s.agent.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != 200 {
		s.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	values := make(map[string]float64)
	for line := range strings.Lines(answer.Body.String()) {
		series, value, ok := cutLast(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			s.Errorf("%s: %v", line, err)
		}
		values[series] = number
	}
	return values
}

func cutLast(text, separator string) (before, after string, found bool) {
	if at := strings.LastIndex(text, separator); at >= 0 {
		return text[:at], text[at+len(separator):], true
	}
	return text, "", false
}

// counted are the series of the requests.
func (s *stage) counted() map[string]float64 {
	s.Helper()
	values := s.scrape()
	maps.DeleteFunc(values, func(series string, _ float64) bool { return !strings.HasPrefix(series, "sealsign_requests_total{") })
	return values
}

func series(caller, key, operation, outcome, reason string) string {
	return fmt.Sprintf("sealsign_requests_total{caller=%q,key=%q,operation=%q,outcome=%q,reason=%q}", caller, key, operation, outcome, reason)
}

func (s *stage) wantCounted(want map[string]float64) {
	s.Helper()
	if got := s.counted(); !maps.Equal(got, want) {
		s.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	s := set(t, scene{})
	s.must(s.ask("acme", "GET /account"))
	s.must(release(s.ask("okx", balance)))
	s.must(release(s.ask("okx", balance)))
	s.refused(s.ask("acme", "POST /payouts"), fault.OperationNotGranted)
	s.venues.Behave("acme", "/account", mockvenue.Behaviour{Break: true})
	want := map[string]float64{
		series("me", "acme", "read", "allowed", ""):                         1,
		series("me", "okx", "read", "allowed", ""):                          2,
		series("me", "acme", "withdraw", "denied", "OPERATION_NOT_GRANTED"): 1,
	}
	s.wantCounted(want)

	s.venues.Close()
	s.refused(s.ask("acme", "GET /account"), fault.VenueUnreachable)
	want[series("me", "acme", "read", "failed", "VENUE_UNREACHABLE")] = 1
	s.wantCounted(want)

	if err := s.agent.Refuse(s.me, s.ask("acme", "GET /account"), fault.New(fault.BadRequest, "unreadable")); err == nil {
		t.Error("the refusal is lost")
	}
	want[series("me", metrics.Unknown, "unknown", "denied", "BAD_REQUEST")] = 1
	s.wantCounted(want)

	values := s.scrape()
	for series, want := range map[string]float64{
		`sealsign_step_duration_seconds_count{step="identify"}`:   5,
		`sealsign_step_duration_seconds_count{step="sign"}`:       4,
		`sealsign_step_duration_seconds_count{step="forward"}`:    2,
		`sealsign_request_duration_seconds_count{mode="release"}`: 2,
		`sealsign_request_duration_seconds_count{mode="forward"}`: 3,
		`sealsign_request_duration_seconds_count{mode="login"}`:   0,
	} {
		if values[series] != want {
			t.Errorf("%s is %v, want %v", series, values[series], want)
		}
	}
}

// Who is no caller, or asks for keys that there aren't, makes no series.
func TestNobodyMakesSeries(t *testing.T) {
	s := set(t, scene{keys: []key{{venue: "acme", algorithm: "hmac-sha256"}, {venue: "okx", algorithm: "hmac-sha256"}}, role: usualRole + `keys = ["acme"]`})
	for i := range 100 {
		stranger := &caller.Caller{UID: uint32(70000 + i), Unit: fmt.Sprintf("stranger-%d.service", i)}
		if _, err := s.agent.Do(t.Context(), stranger, s.ask("acme", "GET /account")); err == nil {
			t.Error("a stranger is served")
		}
		ask := s.ask("acme", "GET /account")
		ask.Key = fmt.Sprintf("no-key-%d", i)
		s.refused(ask, fault.KeyUnknown)
		s.refused(s.askAt("acme", fmt.Sprintf("host-%d.example", i), "GET /account", ""), fault.HostNotAllowed)
	}
	s.refused(s.ask("okx", balance), fault.KeyNotGranted)
	s.wantCounted(map[string]float64{
		series(metrics.Unknown, metrics.Unknown, "unknown", "denied", "CALLER_UNKNOWN"): 100,
		series("me", metrics.Unknown, "unknown", "denied", "KEY_UNKNOWN"):               100,
		series("me", metrics.Unknown, "unknown", "denied", "HOST_NOT_ALLOWED"):          100,
		series("me", metrics.Unknown, "read", "denied", "KEY_NOT_GRANTED"):              1,
	})
}

// What the config no longer has goes, also where a request of before ends later; the rest counts on.
func TestSeriesGoWithTheirKeys(t *testing.T) {
	s := set(t, scene{keys: []key{{venue: "acme", algorithm: "hmac-sha256"}, {venue: "okx", algorithm: "hmac-sha256"}}})
	s.must(release(s.ask("okx", balance)))
	s.must(s.ask("acme", "GET /account"))
	s.refused(s.ask("acme", "POST /payouts"), fault.OperationNotGranted)
	answer := make(chan struct{})
	s.venues.Behave("acme", "/account", mockvenue.Behaviour{Hold: answer})
	ended := make(chan error)
	go func() { _, err := s.do(t.Context(), s.ask("acme", "GET /account")); ended <- err }()
	s.eventually("the request at the venue", func() bool { return len(s.arrived("acme")) == 2 })

	s.scene.keys = s.scene.keys[1:]
	s.write(s.scene.role)
	if err := s.agent.Reload(); err != nil {
		t.Fatal(err)
	}
	close(answer)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s.must(release(s.ask("okx", balance)))
	s.wantCounted(map[string]float64{series("me", "okx", "read", "allowed", ""): 2})
	for series := range s.scrape() {
		if strings.Contains(series, "acme") {
			t.Errorf("there still is %s", series)
		}
	}

	s.agent.Stop() // so that it forgets
	s.start()
	s.wantCounted(map[string]float64{})
}

func TestStateInMetrics(t *testing.T) {
	s := set(t, scene{keys: []key{{venue: "acme", algorithm: "hmac-sha256", lines: "expires = 2100-01-01T00:00:00Z\nmax_age = \"30d\""}}})
	s.must(s.ask("acme", "GET /account"))
	want := func(values map[string]float64) {
		t.Helper()
		got := s.scrape()
		for series, value := range values {
			if v, ok := got[series]; !ok || v != value {
				t.Errorf("%s is %v (there: %t), want %v", series, v, ok, value)
			}
		}
	}
	info := s.agent.Status().Keys[0]
	want(map[string]float64{
		`sealsign_key_info{algorithm="hmac-sha256",environment="testnet",key="acme",protection="sealed",venue="acme"}`: 1,
		`sealsign_key_state{key="acme",state="active"}`:                                                                1,
		`sealsign_key_version{key="acme",which="active"}`:                                                              1,
		`sealsign_key_expires_timestamp_seconds{key="acme"}`:                                                           float64(info.Schedule.Expires.Unix()),
		`sealsign_key_imported_timestamp_seconds{key="acme"}`:                                                          float64(info.Versions[0].ImportedAt.UnixMilli()) / 1000,
		`sealsign_key_rotation_due_timestamp_seconds{key="acme"}`:                                                      float64(info.Versions[0].ImportedAt.Add(30*24*time.Hour).UnixMilli()) / 1000,
		`sealsign_tpm_up`:                        1,
		`sealsign_audit_up`:                      1,
		`sealsign_ledger_up`:                     1,
		`sealsign_store_trusted`:                 1,
		`sealsign_config_last_reload_successful`: 1,
		`sealsign_audit_tree_size`:               float64(s.agent.Status().Audit.Records),
	})
	if err := s.agent.Suspend(t.Context(), s.me, "acme", false); err != nil {
		t.Fatal(err)
	}
	s.write("nonsense")
	if err := s.agent.Reload(); err == nil {
		t.Error("nonsense is taken")
	}
	want(map[string]float64{`sealsign_key_state{key="acme",state="suspended"}`: 1, `sealsign_config_last_reload_successful`: 0})
	if v, ok := s.scrape()[`sealsign_key_state{key="acme",state="active"}`]; ok {
		t.Errorf("it still is active: %v", v)
	}
}

var row = regexp.MustCompile("(?m)^\\| `(sealsign_[a-z_]+)`")

// documented are the names of docs/metrics.md.
func documented(t *testing.T) (names []string) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range row.FindAllSubmatch(text, -1) {
		names = append(names, string(match[1]))
	}
	slices.Sort(names)
	return names
}

// Each name of the contract is one that the daemon gives, and it gives no other.
func TestEveryMetricIsGiven(t *testing.T) {
	s := rotating(t, "binance", "hmac-sha256", "auto", func(sc *scene) {
		sc.keys[0].lines += "\nmax_age = \"30d\"\nexpires = 2100-01-01T00:00:00Z"
	})
	issued := s.venues.Issue("binance", "hmac-sha256")
	s.venues.Grant("binance", issued.APIKey, mockvenue.Rights{Expires: time.Now().Add(72 * time.Hour)})
	if _, err := s.agent.Import(t.Context(), s.me, "binance", issued.JSON()); err != nil {
		t.Fatal(err)
	}
	s.agent.Metrics().Sockets(func() (connections, streams int) { return 3, 2 })
	s.eventually("the rights", func() bool { return s.info().Versions[0].Rights != nil })
	s.eventually("the venue's clock", func() bool {
		s.must(s.ask("binance", "GET /api/v3/account"))
		_, known := s.scrape()[`sealsign_clock_skew_seconds{host="`+s.venues.Host("binance")+`",venue="binance"}`]
		return known
	})
	s.eventually("the checkpoint", func() bool { return !s.agent.Status().Audit.CheckpointAt.IsZero() })

	given := make(map[string]bool)
	for series := range s.scrape() {
		name, _, _ := strings.Cut(series, "{")
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		if strings.HasPrefix(name, "sealsign_") {
			given[name] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(given)), documented(t); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
