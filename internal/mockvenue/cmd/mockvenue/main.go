// Command mockvenue runs the mock exchanges for a demo or for tests in other
// languages. It writes ca.pem, venues.toml (the [venues] part of a sealsign
// config) and one credential for each venue and algorithm into a folder, prints
// where each venue listens, and serves until it is interrupted.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/sealsign/sealsign/internal/mockvenue"
)

func main() {
	dir := flag.String("dir", ".", "folder for ca.pem, venues.toml and the credentials")
	port := flag.Int("port", 0, "port of the first venue, the others follow (0: any free ones)")
	environment := flag.String("environment", "testnet", "environment that venues.toml is for")
	flag.Parse()
	if err := run(*dir, *port, *environment); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string, port int, environment string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server, err := mockvenue.Start(mockvenue.Options{Dir: dir, Port: port})
	if err != nil {
		return err
	}
	defer server.Close()
	for _, venue := range mockvenue.Venues() {
		for _, algorithm := range server.Algorithms(venue) {
			file := filepath.Join(dir, venue+"-"+algorithm+".json")
			if err := os.WriteFile(file, server.Credential(venue, algorithm).JSON(), 0o600); err != nil {
				return err
			}
		}
	}
	// The last file: whoever waits for it finds the others.
	partial := filepath.Join(dir, "venues.toml.new")
	if err := os.WriteFile(partial, []byte(server.Config(environment)), 0o600); err != nil {
		return err
	}
	if err := os.Rename(partial, filepath.Join(dir, "venues.toml")); err != nil {
		return err
	}
	for _, venue := range mockvenue.Venues() {
		fmt.Printf("%-18s https://%s\n", venue, server.Host(venue))
	}
	<-ctx.Done()
	return nil
}
