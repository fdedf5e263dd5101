package policy

import (
	"testing"
	"time"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{
		"50/s":      {50, time.Second},
		"3000/m":    {3000, time.Minute},
		"100/h":     {100, time.Hour},
		"1000/d":    {1000, 24 * time.Hour},
		"1000000/s": {maxRate, time.Second},
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "50", "/s", "50/", "0/s", "-1/s", "+1/s", "1.5/s", "1e3/s", "50/ms", "50/S", "50 /s", "50/s/s", "1000001/s", "99999999999999999999/s"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
}
