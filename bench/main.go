// Command bench says what the agent of this host reaches, beside what any other
// answer over a Unix socket takes here:
//
//	go run ./bench -key okx-main -url https://www.okx.com/api/v5/account/balance
//
// It has one request signed again and again, first one after the other and then
// many at once. Nothing is sent to a venue; each request is in the log and counts
// against the role's rate. The baselines are two servers in a process of their
// own, as the agent is: one that gives each message back as it came, and one that
// answers each message of a gRPC stream with an empty one.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/sealsign/sealsign/client"
)

func main() {
	if serveBaseline() {
		return
	}
	var request client.Request
	dir := flag.String("runtime-dir", "", "the folder of the agent's sockets; $SEALSIGN_RUNTIME_DIR or "+client.DefaultDir+" where it is left out")
	flag.StringVar(&request.Key, "key", "", "the key to sign with")
	flag.StringVar(&request.Method, "method", "GET", "of the request")
	flag.StringVar(&request.URL, "url", "", "of the request")
	data := flag.String("data", "", "its body")
	n := flag.Int("n", 20_000, "how many requests there are of each kind")
	inFlight := flag.Int("in-flight", 64, "how many of them are on their way at once, in the second part")
	flag.Parse()
	if flag.NArg() > 0 || request.URL == "" || *n < 1 || *inFlight < 1 {
		flag.Usage()
		os.Exit(2)
	}
	request.Body = []byte(*data)
	if err := run(*dir, &request, *n, *inFlight); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(dir string, request *client.Request, n, inFlight int) error {
	agent, err := client.Dial(dir)
	if err != nil {
		return err
	}
	defer func() { _ = agent.Close() }()
	echo, err := startEcho(len(request.URL) + len(request.Body))
	if err != nil {
		return err
	}
	defer echo.stop()
	stream, err := startStream()
	if err != nil {
		return err
	}
	defer stream.stop()

	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "\tp50 µs\tp99 µs\t%d at once, a second\t\n", inFlight)
	row := func(name string, one func() error, flood func(n, inFlight int) (float64, error)) error {
		l, err := oneAfterTheOther(n, one)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rate := ""
		if flood != nil {
			reached, err := flood(n, inFlight)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			rate = fmt.Sprintf("%.0f", reached)
		}
		fmt.Fprintf(table, "%s\t%.1f\t%.1f\t%s\t\n", name, l.p50, l.p99, rate)
		return nil
	}
	if err := row("unix echo", echo.ask, nil); err != nil {
		return err
	}
	if err := row("empty gRPC stream", stream.ask, stream.flood); err != nil {
		return err
	}
	if err := row("release", release(agent, request), flood(release(agent, request))); err != nil {
		return err
	}
	return table.Flush()
}

// release has a request signed.
func release(agent *client.Client, request *client.Request) func() error {
	ctx := context.Background()
	return func() error {
		_, err := agent.Sign(ctx, request)
		return err
	}
}
