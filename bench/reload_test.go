package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/daemontest"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// BenchmarkReload is how long an edit of one key among many takes until it is in force:
// where an operator asks for it, and where the daemon notices by itself. The others have
// no version, since an edit touches none of them.
func BenchmarkReload(b *testing.B) {
	for _, keys := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			settings := func(edit int) string {
				edited := strings.Replace(manyKeys(keys, 0), "probe = ", fmt.Sprintf("max_age = \"%dd\"\nprobe = ", 100+edit), 1)
				return edited + fmt.Sprintf("[callers.me]\nuid = %d\nroles = [\"all\"]\n", os.Getuid())
			}
			d := daemontest.Start(b, settings(0))
			imports(b, d, 1)
			admin, err := client.DialAdmin(d.Run)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = admin.Close() })
			loads := func() int { return strings.Count(d.Log(), `msg="config loaded"`) }
			var asked, noticed time.Duration
			for n := 0; b.Loop(); n++ {
				d.Write(settings(2*n + 1))
				began := time.Now()
				if _, err := admin.Reload(b.Context(), &pb.ReloadRequest{}); err != nil {
					b.Fatal(err)
				}
				asked += time.Since(began)
				before := loads()
				d.Write(settings(2*n + 2))
				for began = time.Now(); loads() == before; time.Sleep(time.Millisecond) {
				}
				noticed += time.Since(began)
			}
			b.ReportMetric(asked.Seconds()*1000/float64(b.N), "asked-ms")
			b.ReportMetric(noticed.Seconds()*1000/float64(b.N), "noticed-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
