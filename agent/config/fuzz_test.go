package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sealsign/sealsign/agent/policy"
)

// FuzzConfig reads a main file and one of conf.d. What comes out must be whole,
// and every problem must have a place and say something.
func FuzzConfig(f *testing.F) {
	for _, folder := range []string{"good", "bad"} {
		main, err := filepath.Glob(filepath.Join("testdata", folder, "*.toml"))
		if err != nil || len(main) == 0 {
			f.Fatalf("no seeds: %v", err)
		}
		split, _ := filepath.Glob(filepath.Join("testdata", folder, "*", "conf.d", "*.toml"))
		for _, path := range main {
			f.Add(seed(f, path), []byte(nil))
		}
		for _, path := range split {
			f.Add(seed(f, filepath.Join(filepath.Dir(path), "..", "sealsign.toml")), seed(f, path))
		}
	}
	f.Fuzz(func(t *testing.T, main, fragment []byte) {
		files := []file{{path: "/a", name: "a", content: main}, {path: "/b", name: "b", content: fragment}}
		c, problems := newLoader("/a", nil).build(files)
		if (c == nil) != (len(problems) > 0) {
			t.Fatalf("%v beside %v", c, problems)
		}
		for _, p := range problems {
			if p.File == "" || p.Message == "" || p.Line < 0 {
				t.Errorf("a problem without place or words: %#v", p)
			}
		}
		if c != nil {
			whole(t, c)
		}
	})
}

func seed(f *testing.F, path string) []byte {
	f.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return content
}

// whole: a configuration that is taken refers to nothing that it lacks.
func whole(t *testing.T, c *Config) {
	for name, k := range c.Keys {
		if k.Name != name || k.Venue == nil || k.Algorithm == "" || k.Environment != c.Agent.Environment || len(k.Venue.Hosts(k.Environment)) == 0 {
			t.Errorf("key %s is %+v", name, k)
		}
	}
	for name, r := range c.Roles {
		for key := range r.Keys {
			if c.Keys[key] == nil {
				t.Errorf("role %s has the key %s, which isn't there", name, key)
			}
		}
		if r.Release == policy.Unbound && len(r.Symbols) > 0 {
			t.Errorf("role %s releases unbound and has symbols", name)
		}
	}
	for _, caller := range c.Callers {
		if len(caller.Roles) == 0 || caller.UID == nil && (caller.GID == nil || caller.Unit != "") {
			t.Errorf("caller %+v", caller)
		}
	}
}
