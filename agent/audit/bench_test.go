package audit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// sample is a record as a busy bot makes them.
func sample() *Record {
	return &Record{
		Kind: KindDecision, Caller: "alpha", Unit: "bot-alpha.service", UID: 1001, PID: 4242,
		Key: "binance-main", Version: 3, Mode: "forward", Method: "POST", Host: "api.binance.com", Path: "/api/v3/order", Operation: "trade",
		Effects: []Effect{{Operation: "trade", Symbol: "BTCUSDT", Side: "buy", Type: "LIMIT", Quantity: "0.001", Price: "50000", ClientOrderID: "my-order-1"}},
		Query:   Digest{1, 2, 3}, Body: Digest{4, 5, 6},
		Decision: Allow, Rule: "roles.market-maker.allow",
	}
}

func BenchmarkEncode(b *testing.B) {
	r := sample()
	r.Time = time.Now()
	b.Run("sealsign", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf = appendLine(buf[:0], r)
		}
		b.SetBytes(int64(len(buf)))
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchmarkAppend(b *testing.B, opts Options, parallelism int) {
	l := openLog(b, b.TempDir(), opts)
	b.ReportAllocs()
	b.SetParallelism(parallelism)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		r := sample()
		for pb.Next() {
			r.Time = time.Time{}
			if _, err := l.Append(r, false); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkAppendInterval(b *testing.B) {
	b.Run("1", func(b *testing.B) {
		l := openLog(b, b.TempDir(), Options{Sync: SyncInterval})
		r := sample()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := l.Append(r, false); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64", func(b *testing.B) { benchmarkAppend(b, Options{Sync: SyncInterval}, 32) })
}

func BenchmarkAppendGroup64(b *testing.B) { benchmarkAppend(b, Options{Sync: SyncGroup}, 32) }

// BenchmarkFsyncPerRecord is what BenchmarkAppendGroup64 is measured against.
func BenchmarkFsyncPerRecord(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	line := appendLine(nil, sample())
	for b.Loop() {
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWritePerRecord is the least that a record costs that is handed to the kernel by itself.
func BenchmarkWritePerRecord(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	line := appendLine(nil, sample())
	for b.Loop() {
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}
