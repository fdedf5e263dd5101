package audit

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestRecordLine(t *testing.T) {
	at := time.Date(2026, 11, 23, 13, 0, 0, 120e6, time.FixedZone("CET", 3600))
	tests := []struct {
		name string
		r    Record
		want string
	}{
		{
			"nothing known",
			Record{Time: at, Kind: KindDecision, UID: 7},
			`{"id":0,"time":"2026-11-23T12:00:00.12Z","kind":"decision","caller":"","key":"","version":0,"method":"","host":"","path":"","operation":"","decision":"","rule":"","reason":""}`,
		},
		{
			"denied",
			Record{ID: 12, Time: at, Kind: KindDecision, Caller: "alpha", Unit: "a.service", PID: 9, Key: "k", Version: 2, Mode: "release", Method: "GET",
				Host: "h", Path: "/p", Operation: "read", Query: Digest{0xab}, Decision: Deny, Rule: "r", Reason: "RATE_LIMITED", Message: "m", Count: 3},
			`{"id":12,"time":"2026-11-23T12:00:00.12Z","kind":"decision","caller":"alpha","unit":"a.service","uid":0,"pid":9,"key":"k","version":2,"mode":"release","method":"GET","host":"h","path":"/p","operation":"read","query_sha256":"ab00000000000000000000000000000000000000000000000000000000000000","decision":"deny","rule":"r","reason":"RATE_LIMITED","message":"m","count":3}`,
		},
		{
			"outcome of the first record",
			Record{ID: 1, Time: at, Kind: KindOutcome, Status: 200, Sent: "yes", DurationUS: 1500,
				Effects: []Effect{{Operation: "trade", Symbol: "S", QuoteQuantity: "1"}, {Operation: "cancel"}}},
			`{"id":1,"time":"2026-11-23T12:00:00.12Z","kind":"outcome","caller":"","key":"","version":0,"method":"","host":"","path":"","operation":"","effects":[{"operation":"trade","symbol":"S","quote_quantity":"1"},{"operation":"cancel"}],"decision":"","rule":"","reason":"","of":0,"status":200,"sent":"yes","duration_us":1500}`,
		},
		{
			"text that would deceive a reader",
			Record{Time: at, Caller: "a\"\\\n\x00\x7f\u0085", Path: "\u202egnp.exe", Rule: "x\xffy\ufffd", Reason: "\u2028\ufeff\U000e0041", Key: "schlüssel 鍵 <&>"},
			`{"id":0,"time":"2026-11-23T12:00:00.12Z","kind":"","caller":"a\"\\\u000a\u0000\u007f\u0085","key":"schlüssel 鍵 <&>","version":0,"method":"","host":"","path":"\u202egnp.exe","operation":"","decision":"","rule":"x\ufffdy\ufffd","reason":"\u2028\ufeff\udb40\udc41"}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			line := appendLine(nil, &test.r)
			if string(line) != test.want {
				t.Fatalf("got\n%s\nwant\n%s", line, test.want)
			}
			if _, err := ParseRecord(line); err != nil {
				t.Error(err)
			}
		})
	}
}

// Any record is written as JSON that encoding/json reads as the same record, on
// one line of visible text.
func TestAnyRecordIsReadBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text := func(label string) string { return rapid.String().Draw(r, label) }
		want := Record{
			ID: rapid.Uint64().Draw(r, "id"), Time: time.Unix(0, rapid.Int64Range(0, 1<<62).Draw(r, "time")).UTC(),
			Kind:   rapid.SampledFrom([]string{KindDecision, KindOutcome, KindAdmin}).Draw(r, "kind"),
			Caller: text("caller"), Unit: text("unit"), Path: text("path"), Message: text("message"),
			Effects: rapid.SliceOfN(rapid.Make[Effect](), 1, 3).Draw(r, "effects"),
			Body:    Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "body")),
			Status:  rapid.Int().Draw(r, "status"), Count: rapid.IntRange(0, 9).Draw(r, "count"),
		}
		if want.PID = rapid.IntRange(0, 2).Draw(r, "pid"); want.PID != 0 {
			want.UID = rapid.Uint32().Draw(r, "uid")
		}
		if want.Kind == KindOutcome {
			want.Of = rapid.Uint64().Draw(r, "of")
		}
		line := appendLine(nil, &want)
		if !utf8.Valid(line) || strings.ContainsFunc(string(line), func(c rune) bool {
			return !unicode.IsPrint(c) && unicode.In(c, unicode.C, unicode.Zl, unicode.Zp) && !unicode.In(c, unicode.Co, unicode.Cs)
		}) {
			r.Fatalf("invisible: %q", line)
		}
		var got Record
		if err := json.Unmarshal(line, &got); err != nil {
			r.Fatalf("%v: %s", err, line)
		}
		if !reflect.DeepEqual(got, want) {
			r.Fatalf("got  %+v\nwant %+v", got, want)
		}
		if back, err := ParseRecord(line); err != nil || !reflect.DeepEqual(*back, want) {
			r.Fatalf("%v: %s", err, line)
		}
	})
}

func TestParseRecordTakesOneFormOnly(t *testing.T) {
	whole := string(appendLine(nil, &Record{Time: time.Unix(0, 0), Kind: KindDecision, Caller: "a"}))
	for name, line := range map[string]string{
		"another order":     strings.Replace(whole, `"kind":"decision","caller":"a"`, `"caller":"a","kind":"decision"`, 1),
		"a field twice":     strings.Replace(whole, `"caller":"a"`, `"caller":"b","caller":"a"`, 1),
		"an unknown field":  strings.Replace(whole, `"rule"`, `"x":1,"rule"`, 1),
		"a missing field":   strings.Replace(whole, `,"rule":""`, ``, 1),
		"another case":      strings.Replace(whole, `"rule"`, `"Rule"`, 1),
		"a space":           strings.Replace(whole, `,"rule"`, `, "rule"`, 1),
		"a needless escape": strings.Replace(whole, `"a"`, `"\u0061"`, 1),
		"an unescaped mark": strings.Replace(whole, `"a"`, "\"\u202ea\"", 1),
		"no UTF-8":          strings.Replace(whole, `"a"`, "\"\xff\"", 1),
		"another type":      strings.Replace(whole, `"version":0`, `"version":"0"`, 1),
		"trailing data":     whole + "{}",
		"nothing":           "",
	} {
		if _, err := ParseRecord([]byte(line)); err == nil {
			t.Errorf("%s: taken: %s", name, line)
		}
	}
}
