package caller

import (
	"strings"
	"testing"
)

func TestUnitOf(t *testing.T) {
	for _, test := range []struct{ name, path, want string }{
		{"a service", "/system.slice/bot.service", "bot.service"},
		{"an instance", "/system.slice/system-bot.slice/bot@alpha.service", "bot@alpha.service"},
		{"a scope", "/system.slice/run-u12.scope", "run-u12.scope"},
		{"an escaped name", `/system.slice/bot\x2dalpha.service`, `bot\x2dalpha.service`},
		{"slices, however nested", "/bots.slice/bots-a.slice/bots-a-b.slice/bot.service", "bot.service"},
		{"no slice at all", "/init.scope", "init.scope"},
		{"a name that the kernel has a use for", "/system.slice/_cpu.service", "cpu.service"},
		{"a quadlet container", "/system.slice/bot.service/libpod-payload-ab12", "bot.service"},

		{"a service that a delegated service made", "/system.slice/evil.service/bot.service", "evil.service"},
		{"a slice that a delegated service made", "/system.slice/evil.service/system.slice/bot.service", "evil.service"},
		{"a user's own service", "/user.slice/user-1000.slice/user@1000.service/app.slice/bot.service", ""},
		{"a user's session", "/user.slice/user-1000.slice/session-3.scope", ""},
		{"user.slice deeper down", "/a.slice/user.slice/bot.service", ""},
		{"a container's own service", "/machine.slice/machine-c.scope/system.slice/bot.service", ""},
		{"not a slice above it", "/docker/bot.service", ""},
		{"not a unit above it", "/system.slice/bots/bot.service", ""},
		{"a slice where systemd has none", "/system.slice/evil.slice/bot.service", ""},
		{"no unit", "/system.slice", ""},
		{"the root", "/", ""},
		{"nothing", "", ""},
		{"no slash", "system.slice/bot.service", ""},
		{"the suffix alone", "/system.slice/.service", ""},
		{"the escaped suffix alone", "/system.slice/_.service", ""},
		{"a slice that is a suffix alone", "/.slice/bot.service", ""},
		{"an empty name", "/system.slice//bot.service", ""},
		{"another suffix", "/system.slice/bot.service.d", ""},
		{"upper case", "/system.slice/bot.SERVICE", ""},
		{"a cgroup that was removed", "/system.slice/bot.service (deleted)", ""},
		{"a name that no unit has", "/system.slice/bot and more.service", ""},
		{"another root", "/../system.slice/bot.service", ""},
		{"a way up", "/system.slice/../bot.service", ""},
		{"a way up at the end", "/system.slice/bot.service/..", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := unitOf("0::" + test.path + "\n"); got != test.want {
				t.Errorf("%s: got %q, want %q", test.path, got, test.want)
			}
		})
	}
}

func TestUnitOfReadsTheUnifiedLine(t *testing.T) {
	for _, test := range []struct{ name, cgroup, want string }{
		{"beside version 1", "4:memory:/x\n1:name=systemd:/system.slice/evil.service\n0::/system.slice/bot.service\n", "bot.service"},
		{"version 1 only", "1:name=systemd:/system.slice/bot.service\n", ""},
		{"a look-alike", "10::/system.slice/bot.service\n", ""},
		{"two of them", "0::/system.slice/bot.service\n0::/system.slice/evil.service\n", ""},
		{"no line end", "0::/system.slice/bot.service", "bot.service"},
		{"empty", "", ""},
	} {
		if got := unitOf(test.cgroup); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func FuzzUnitOf(f *testing.F) {
	f.Add("0::/system.slice/bot.service\n")
	f.Add("0::/user.slice/user-1000.slice/user@1000.service/app.slice/bot.service\n")
	f.Add("0::/a.slice/a-b.slice/_cpu.scope/x\n1:cpu:/\n")
	f.Fuzz(func(t *testing.T, cgroup string) {
		unit := unitOf(cgroup)
		if unit == "" {
			return
		}
		if !isUnitName(unit) || !strings.Contains(cgroup, "/"+unit) && !strings.Contains(cgroup, "/_"+unit) {
			t.Errorf("%q is no name in %q", unit, cgroup)
		}
	})
}
