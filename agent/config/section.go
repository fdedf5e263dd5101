package config

import (
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// section reads a table by the names that the format has. A value of another
// type is a problem and reads as absent; a name that was never asked for is one
// when the section is done.
type section struct {
	*loader
	*table
	known []string
	put   []string // known ones that this version refuses
}

func (l *loader) section(t *table) *section { return &section{loader: l, table: t} }

// maxProblems is how many problems are told; a file that isn't a configuration at
// all has one in each line.
const maxProblems = 100

func (l *loader) problem(at place, format string, args ...any) {
	if len(l.problems) >= maxProblems {
		l.untold++
		return
	}
	l.problems = append(l.problems, Problem{at.path, at.file, at.line, fmt.Sprintf(format, args...)})
}

// warning is kept until the configuration is known to be good.
func (l *loader) warning(path, format string, args ...any) {
	l.config.Warnings = append(l.config.Warnings, path+": "+fmt.Sprintf(format, args...))
}

// here is the place of a name that the section doesn't have.
func (s *section) here(name string) place {
	return place{join(s.path, name), s.file, s.line}
}

// get finds a value by its name, which the format knows from then on.
func (s *section) get(name string) (value, bool) {
	s.known = append(s.known, name)
	v, ok := s.members[name]
	return v, ok
}

// typed reads a value of a type that is called what. ok is false where there is
// none, and where it is a problem.
func typed[T any](s *section, name, what string) (data T, at place, ok bool) {
	v, ok := s.get(name)
	if !ok {
		return data, s.here(name), false
	}
	data, ok = v.data.(T)
	if !ok {
		s.mistyped(v, what)
	}
	return data, v.place, ok
}

func (l *loader) mistyped(v value, what string) {
	if v.data != nil { // else it is a problem already
		l.problem(v.place, "is %s, and %s is wanted", kind(v.data), what)
	}
}

func kind(data any) string {
	switch data := data.(type) {
	case string:
		return "text"
	case int64:
		return "a number"
	case bool:
		return "true or false"
	case []value:
		return "a list"
	case *table:
		return "a table"
	case time.Time:
		return "a date or time"
	case other:
		return string(data)
	}
	return "nothing"
}

// text reads text; where there is none, it is the fallback.
func (s *section) text(name, fallback string) (string, place) {
	data, at, ok := typed[string](s, name, "text")
	if !ok {
		data = fallback
	}
	return data, at
}

// required reads text that must be there.
func (s *section) required(name, example string) (string, place) {
	data, at, ok := typed[string](s, name, "text")
	if _, exists := s.members[name]; !exists {
		s.problem(s.here(name), "is missing; write %s = %s", name, example)
	} else if ok && data == "" {
		s.problem(at, "is empty; write %s = %s", name, example)
	}
	return data, at
}

func (s *section) flag(name string) bool {
	data, _, _ := typed[bool](s, name, "true or false")
	return data
}

// number reads a whole number from least to most; ok is false where there is none.
func (s *section) number(name string, least, most int64) (n int64, ok bool) {
	n, at, ok := typed[int64](s, name, "a whole number")
	if ok && (n < least || n > most) {
		s.problem(at, "is %d; it can be %d to %d", n, least, most)
		return 0, false
	}
	return n, ok
}

// moment reads a date and time; where there is none, it is zero.
func (s *section) moment(name string) time.Time {
	at, _, _ := typed[time.Time](s, name, "a date and time with its offset from UTC, such as 2027-02-01T00:00:00Z,")
	return at
}

// choice reads one of the words.
func choice[T ~string](s *section, name string, fallback T, words ...T) T {
	text, at := s.text(name, string(fallback))
	if !slices.Contains(words, T(text)) {
		s.problem(at, "is %s; it can be %s", clip(text), list(words))
	}
	return T(text)
}

// absolute reads an absolute path in its normal form.
func (s *section) absolute(name, fallback string) (string, place) {
	path, at := s.text(name, fallback)
	if path != "" && (!filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0)) {
		s.problem(at, "is %s; an absolute path is wanted, without . and .. and a last /", clip(path))
		return "", at
	}
	return path, at
}

// entry is one text of a list.
type entry struct {
	place
	text string
}

// texts reads a list of texts, none of them empty or twice. found is whether
// the name is there at all.
func (s *section) texts(name string) (entries []entry, at place, found bool) {
	items, at, ok := typed[[]value](s, name, "a list of texts")
	_, found = s.members[name]
	if !ok {
		return nil, at, found
	}
	seen := make(map[string]bool)
	for _, item := range items {
		text, isText := item.data.(string)
		switch {
		case !isText:
			s.mistyped(item, "text")
		case text == "":
			s.problem(item.place, "is empty")
		case seen[text]:
			s.problem(item.place, "is %s a second time", clip(text))
		default:
			seen[text] = true
			entries = append(entries, entry{item.place, text})
		}
	}
	return entries, at, found
}

// below reads a table of this one; it is empty where there is none.
func (s *section) below(name string) *section {
	t, at, ok := typed[*table](s, name, "a table")
	if !ok {
		t = newTable()
		t.place = at
	}
	return s.section(t)
}

// each reads the tables of a table that maps names of the operator's choice.
func (s *section) each(what string) iter.Seq2[string, *section] {
	return func(yield func(string, *section) bool) {
		for _, name := range s.names {
			v := s.members[name]
			if !isName(name) {
				s.problem(v.place, "%s is no name for %s: %s", clip(name), what, nameRule)
			}
			t, ok := v.data.(*table)
			if !ok {
				s.mistyped(v, "a table")
				continue
			}
			if !yield(name, s.section(t)) {
				return
			}
		}
	}
}

// later names what the format has and this version of sealsign refuses.
func (s *section) later(names ...string) {
	for _, name := range names {
		if v, ok := s.members[name]; ok {
			s.problem(v.place, "%s is not in this version of sealsign", quoteKey(name))
		}
	}
	s.put = append(s.put, names...)
}

// done reports the names that the format doesn't have. what is what a name stands for.
func (s *section) done(what string) {
	for _, name := range s.names {
		if !slices.Contains(s.known, name) && !slices.Contains(s.put, name) {
			s.problem(s.members[name].place, "%s is not %s; there are %s", quoteKey(name), what, list(s.known))
		}
	}
}

// maxName is the longest name of a key, role, caller or venue: they are parts of
// file names, paths and messages.
const maxName = 64

var nameRule = fmt.Sprintf("up to %d letters, digits, - and _ make one, and - isn't first", maxName)

func isName(name string) bool {
	return name != "" && len(name) <= maxName && name[0] != '-' && strings.Trim(name, bareKey) == ""
}

// list writes legal words: "a, b and c".
func list[T ~string](words []T) string {
	switch len(words) {
	case 0:
		return "none"
	case 1:
		return string(words[0])
	}
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	last := len(texts) - 1
	return strings.Join(texts[:last], ", ") + " and " + texts[last]
}

// clip quotes text of the file for a message, escaped and of bounded length.
func clip(text string) string {
	const most = 80
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strconv.Quote(text)
}
