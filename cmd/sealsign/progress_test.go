package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgressShowsOnlyAfterAWhileAndGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var screen bytes.Buffer
		done := showProgress(&screen, "the TPM is making the key", time.Second)
		time.Sleep(900 * time.Millisecond)
		done()
		if screen.Len() != 0 {
			t.Errorf("a quick command shows %q", screen.String())
		}

		done = showProgress(&screen, "the TPM is making the key", time.Second)
		time.Sleep(2500 * time.Millisecond)
		done()
		if got := screen.String(); !strings.HasPrefix(got, "\rthe TPM is making the key, 1 s\rthe TPM is making the key, 2 s") || !strings.HasSuffix(got, "\r\x1b[K") {
			t.Errorf("a slow command shows %q", got)
		}
	})
}
