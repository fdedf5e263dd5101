// Package systemd is the daemon as a service of systemd's: the sockets that it is
// handed, readiness and watchdog, and the journal. Without systemd each function does
// nothing. Beside the code are the units that rely on it.
package systemd
