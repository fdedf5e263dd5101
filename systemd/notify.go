package systemd

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/sealsign/sealsign/internal/event"
)

// statusEvery is how soon a change shows in "systemctl status".
const statusEvery = 5 * time.Second

// notify tells the service manager: sd_notify(3). It can't be reached where it isn't
// there or ends, and the daemon goes on either way.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }

// Ready says that the sockets are served.
func Ready() { notify(daemon.SdNotifyReady) }

// Stopping says that nothing new is taken.
func Stopping() { notify(daemon.SdNotifyStopping) }

// Reloading says that the config is read again, and what it gives, that this has ended.
func Reloading() (reloaded func()) {
	notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	return Ready
}

// TellStatus keeps the status line as line has it until ctx ends.
func TellStatus(ctx context.Context, line func() string) {
	for told := ""; ; {
		now := line()
		if now != told {
			if sent, _ := daemon.SdNotify(false, "STATUS="+now); !sent {
				return // nobody listens
			}
			told = now
		}
		if !wait(ctx, statusEvery) {
			return
		}
	}
}

// Watch tells the watchdog that the daemon lives, as long as the test gives no error,
// until ctx ends. A test that fails is tried again: the unit's WatchdogSec is twice
// the pause between two, which is also the time that each has.
func Watch(ctx context.Context, log *slog.Logger, test func(context.Context) error) {
	deadline, err := daemon.SdWatchdogEnabled(false)
	if err != nil || deadline == 0 {
		return
	}
	for every := deadline / 2; wait(ctx, every); {
		testing, cancel := context.WithTimeout(ctx, every)
		err := test(testing)
		cancel()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			log.Error("the daemon doesn't answer itself, and systemd will start it anew", event.Key, event.SelfTestFailed, "error", err)
		default:
			notify(daemon.SdNotifyWatchdog)
		}
	}
}

// wait tells whether ctx is still good after d.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
