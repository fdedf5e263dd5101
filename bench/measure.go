package main

import (
	"slices"
	"sync"
	"time"
)

// latency is how long single requests take, in µs.
type latency struct{ p50, p99 float64 }

// warmUp is how many requests are not counted.
const warmUp = 100

// oneAfterTheOther asks n times.
func oneAfterTheOther(n int, ask func() error) (latency, error) {
	took := make([]time.Duration, n)
	for i := -warmUp; i < n; i++ {
		began := time.Now()
		if err := ask(); err != nil {
			return latency{}, err
		}
		if i >= 0 {
			took[i] = time.Since(began)
		}
	}
	slices.Sort(took)
	return latency{micros(took[n/2]), micros(took[n*99/100])}, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// flood makes a function that keeps inFlight requests on their way, n in all, and
// tells how many a second are answered.
func flood(ask func() error) func(n, inFlight int) (float64, error) {
	return func(n, inFlight int) (float64, error) {
		errs := make([]error, inFlight)
		began := time.Now()
		var all sync.WaitGroup
		for i := range inFlight {
			all.Go(func() {
				for range (n + i) / inFlight {
					if errs[i] = ask(); errs[i] != nil {
						return
					}
				}
			})
		}
		all.Wait()
		took := time.Since(began)
		for _, err := range errs {
			if err != nil {
				return 0, err
			}
		}
		return float64(n) / took.Seconds(), nil
	}
}
