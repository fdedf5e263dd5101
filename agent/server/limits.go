package server

import "time"

// The limits of the sockets. The first six are part of the contract with callers.
const (
	maxBody        = 1 << 20  // bytes of one request's body
	maxHead        = 64 << 10 // bytes of one request's line and header fields
	maxPerCaller   = 256      // connections of one uid
	maxStreams     = 1024     // gRPC calls and streams of one uid at once
	maxConnections = 4096     // in all, on agent.sock and http.sock

	// maxFields is what no client of a venue comes near, and bounds the work that 64 KiB of header can make.
	maxFields = 100
	// maxInFlight is how many requests of one SignStream are worked on at once; the
	// next ones wait in the connection, whose flow control holds the sender back.
	maxInFlight = 128

	// maxHeld is how many bytes the requests of one uid on its streams may take while they are
	// worked on and their answers wait to be read; each counts held besides its body.
	maxHeld = 32 << 20
	held    = 4 << 10

	// firstTimeout is how long a new connection may say nothing, and how long its handshake may take.
	firstTimeout = 5 * time.Second
	// stopTimeout is how long the first request of a connection, or its handshake, is waited for when
	// the daemon stops.
	stopTimeout = time.Second
	// idleTimeout is how long a connection is kept between requests. It is long, since a client
	// that reuses one just as it is closed has to send its order again.
	idleTimeout = 10 * time.Minute
	// headTimeout and bodyTimeout are how long a request's head and body may take to arrive.
	headTimeout = 10 * time.Second
	bodyTimeout = 30 * time.Second
	// writeTimeout is how long a client may take none of what is written to it before it is dropped.
	writeTimeout = 10 * time.Second
	// lingerTimeout is how long what a refused client still sends is read and dropped, so
	// that it comes to read why; lingerBytes is how much of it.
	lingerTimeout = time.Second
	lingerBytes   = 8 << 20
)
