package config

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"

	"github.com/sealsign/sealsign/agent/policy"
)

// facts are what a caller is known by, comparable. -1 and "" are not given.
type facts struct {
	uid, gid          int64
	unit, exe, sha256 string
}

func (l *loader) callers(s *section) {
	seen := make(map[facts]string)
	for name, s := range s.each("a caller") {
		before := len(l.problems)
		c, f := s.caller(name)
		l.config.Callers = append(l.config.Callers, c)
		if len(l.problems) > before {
			continue
		}
		if other, twice := seen[f]; twice {
			l.problem(s.place, "is known by the same facts as callers.%s: no process could be told to be one of them; add a fact, or give one caller both's roles", other)
		}
		seen[f] = name
	}
}

func (s *section) caller(name string) (*policy.Caller, facts) {
	f := facts{uid: s.uid(), gid: -1}
	if group, at := s.text("group", ""); group != "" {
		gid, err := lookupGroup(group)
		if err != nil {
			s.problem(at, "this host has no group %s", clip(group))
		}
		f.gid = int64(gid)
	}
	var at place
	f.unit, at = s.text("unit", "")
	if f.unit != "" && !isUnit(f.unit) {
		s.problem(at, `%s is no unit of a process; write its full name, such as "bot.service"`, clip(f.unit))
	}
	f.exe, _ = s.absolute("exe", "")
	f.sha256, at = s.text("sha256", "")
	f.sha256 = strings.ToLower(f.sha256)
	if sum, err := hex.DecodeString(f.sha256); f.sha256 != "" && (err != nil || len(sum) != 32) {
		s.problem(at, "is %s; 64 hexadecimal digits are wanted, as sha256sum prints them", clip(f.sha256))
	}
	s.checkFacts(f)
	c := &policy.Caller{Name: name, Unit: f.unit, Exe: f.exe, SHA256: f.sha256, UID: id(f.uid), GID: id(f.gid), Roles: s.callerRoles()}
	s.done("a setting of a caller")
	return c, f
}

// uid reads user and uid, which mean the same; -1 where there is neither.
func (s *section) uid() int64 {
	uid, ok := s.number("uid", 0, math.MaxUint32-1)
	if !ok {
		uid = -1
	}
	name, at := s.text("user", "")
	if name == "" {
		return uid
	}
	found, err := lookupUser(name)
	switch {
	case err != nil:
		s.problem(at, "this host has no user %s", clip(name))
		return -1
	case ok && uid != int64(found):
		s.problem(at, "user %s has the uid %d, and uid = %d; leave one of them out", clip(name), found, uid)
	}
	return int64(found)
}

// checkFacts refuses a caller that its facts don't hold apart from others.
func (s *section) checkFacts(f facts) {
	has := func(name string) bool { _, ok := s.members[name]; return ok }
	named := has("user") || has("uid")
	at := place{s.path, s.file, s.line}
	switch {
	case f.unit != "" && !named:
		s.problem(at, "is named by unit and no user; add the user that the unit runs as")
	case named || has("group"):
	case f.exe != "" || f.sha256 != "":
		s.problem(at, "is named by its program alone, which stops nobody; add user, and unit where it has one")
	default:
		s.problem(at, "is named by nothing; add user or group, and unit where it has one")
	}
}

func (s *section) callerRoles() []*policy.Role {
	names, at, found := s.texts("roles")
	switch {
	case !found:
		s.problem(at, "is missing; name the roles of the caller")
	case len(names) == 0:
		s.problem(at, "is empty; name the roles of the caller")
	}
	var roles []*policy.Role
	for _, name := range names {
		role := s.config.Roles[name.text]
		if role == nil {
			s.problem(name.place, "%s is no role; there are %s", clip(name.text), some[*policy.Role](s.config.Roles))
			continue
		}
		roles = append(roles, role)
	}
	return roles
}

// isUnit: the full name of a unit that has processes, as systemd.unit(5) has it.
func isUnit(name string) bool {
	const allowed = bareKey + `:.\@`
	base, isService := strings.CutSuffix(name, ".service")
	if !isService {
		var isScope bool
		if base, isScope = strings.CutSuffix(name, ".scope"); !isScope {
			return false
		}
	}
	return base != "" && len(name) < 256 && strings.Trim(name, allowed) == ""
}

func id(n int64) *uint32 {
	if n < 0 {
		return nil
	}
	i := uint32(n)
	return &i
}

// who describes a caller for a warning.
func who(callers []*policy.Caller) string {
	if len(callers) == 0 {
		return "no caller yet"
	}
	names := make([]string, len(callers))
	for i, c := range callers {
		names[i] = fmt.Sprintf("callers.%s", c.Name)
	}
	return list(names)
}
