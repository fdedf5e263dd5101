package config

import "testing"

// An instance of the daemon has folders of its own, which follow from where its config is.
func TestInstance(t *testing.T) {
	for path, want := range map[string]string{
		"/etc/sealsign/sealsign.toml":         "/run/sealsign",
		"/etc/sealsign/desk/sealsign.toml":    "/run/sealsign/desk",
		"/etc/sealsign/a/b/sealsign.toml":     "/run/sealsign",
		"/home/me/sealsign/x/sealsign.toml":   "/run/sealsign",
		"etc/sealsign/desk/sealsign.toml":     "/run/sealsign",
		"/etc/sealsign/desk/../sealsign.toml": "/run/sealsign",
	} {
		if got := (&loader{mainFile: path}).instance("/run/sealsign"); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
