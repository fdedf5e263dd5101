package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// patience is how long a command may take before it says what it is doing.
const patience = time.Second

// progress shows on standard error, where that is a terminal, what is being
// waited for, once it takes long. The caller calls done before it prints.
func (a *app) progress(what string) (done func()) {
	if !isTerminal(a.errs) {
		return func() {}
	}
	return showProgress(a.errs, what, patience)
}

// showProgress writes a line after each period and takes it away when done.
func showProgress(w io.Writer, what string, period time.Duration) (done func()) {
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		start := time.Now()
		for shown := false; ; shown = true {
			select {
			case <-ticker.C:
				fmt.Fprintf(w, "\r%s, %d s", what, int(time.Since(start).Seconds()))
			case <-stop:
				if shown {
					fmt.Fprint(w, "\r\x1b[K")
				}
				return
			}
		}
	})
	return func() { close(stop); writer.Wait() }
}
