package config

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// maxDepth is how deep tables, lists and dotted keys may nest. The format itself
// goes to four: [venues.x] operations = { read = ["…"] }.
const maxDepth = 8

// place is where something stands.
type place struct {
	path string
	file string
	line int
}

// value is one value with its place. data is a string, int64, bool, time.Time,
// []value or *table; of what the format has no use for, the kind in words.
type value struct {
	place
	data any
}

type other string

// table is a table with its place: where it was first named.
type table struct {
	place
	made    making
	names   []string // in the order in which they came
	members map[string]value
}

// making is how a table came to be, which decides what may still be added to it.
type making int

const (
	implied making = iota // by the header of a table below it; may be added to
	headed                // by its own header; complete once the next header comes
	dotted                // by a dotted key; may be added to by others beside it
	inline                // between braces; complete
)

func newTable() *table { return &table{members: make(map[string]value)} }

func (t *table) add(name string, v value) {
	t.names = append(t.names, name)
	t.members[name] = v
}

// parser adds one file to the merged table. The files together follow the rules
// of one TOML document: what is defined once can't be defined again.
type parser struct {
	*loader
	file  file
	toml  unstable.Parser
	lines []int // offset at which each line begins
	at    *table
}

func (l *loader) parse(f file) {
	p := &parser{loader: l, file: f, lines: []int{0}, at: l.root}
	for i, b := range f.content {
		if b == '\n' {
			p.lines = append(p.lines, i+1)
		}
	}
	p.toml.Reset(f.content)
	for p.toml.NextExpression() {
		p.expression(p.toml.Expression())
	}
	if err := p.toml.Error(); err != nil {
		p.syntax(err)
	}
}

// syntax reports what isn't TOML. The parser stops there, so it is the only
// problem of its kind in this file.
func (p *parser) syntax(err error) {
	at := place{file: p.file.path}
	if e, ok := err.(*unstable.ParserError); ok { //nolint:errorlint // the parser returns it bare
		at.line = p.line(p.toml.Range(e.Highlight))
		at.path = strings.Join(e.Key, ".")
	}
	p.problem(at, "not TOML: %s", err)
	p.broken = true
}

func (p *parser) line(r unstable.Range) int {
	return sort.SearchInts(p.lines, int(r.Offset)+1)
}

func (p *parser) expression(node *unstable.Node) {
	switch node.Kind {
	case unstable.Table:
		p.at = p.header(node)
	case unstable.KeyValue:
		p.keyValue(p.at, node, 0)
	case unstable.ArrayTable:
		p.problem(p.keyPlace(node), "a list of tables ([[…]]) has no meaning here; write [%s]", p.keyPlace(node).path)
		p.at = lost(p.keyPlace(node))
	}
}

// keyPlace is where a header or the key of a value stands.
func (p *parser) keyPlace(node *unstable.Node) place {
	var names []string
	at := place{file: p.file.path}
	for key := node.Key(); key.Next(); {
		if at.line == 0 {
			at.line = p.line(key.Node().Raw)
		}
		names = append(names, quoteKey(string(key.Node().Data)))
	}
	at.path = strings.Join(names, ".")
	return at
}

// lost is a table that nobody reads, for what follows a header that can't be.
func lost(at place) *table {
	t := newTable()
	t.place = at
	return t
}

// header finds or makes the table of [a.b.c].
func (p *parser) header(node *unstable.Node) *table {
	at := p.keyPlace(node)
	t := p.root
	depth := 0
	for key := node.Key(); key.Next(); {
		depth++
		if depth > maxDepth {
			p.problem(place{file: at.file, line: at.line}, "tables nest deeper than %d", maxDepth)
			return lost(at)
		}
		name := string(key.Node().Data)
		made := implied
		if key.IsLast() {
			made = headed
		}
		next, ok := p.descend(t, name, made, at)
		if !ok {
			return lost(at)
		}
		t = next
	}
	return t
}

// descend steps from a table to the one below it that is called name, and makes
// it where there is none.
func (p *parser) descend(t *table, name string, made making, at place) (*table, bool) {
	at.path = join(t.path, name)
	old, exists := t.members[name]
	if !exists {
		next := newTable()
		next.place, next.made = at, made
		t.add(name, value{at, next})
		return next, true
	}
	next, isTable := old.data.(*table)
	switch {
	case isTable && made == implied && next.made != inline,
		isTable && made == dotted && (next.made == dotted || next.made == implied):
		return next, true
	case isTable && made == headed && next.made == implied:
		next.made, next.place = headed, at
		return next, true
	}
	p.twice(at, old.place)
	return nil, false
}

func (p *parser) twice(at, before place) {
	where := fmt.Sprintf("on line %d", before.line)
	if before.file != at.file {
		where = fmt.Sprintf("in %s, line %d", before.file, before.line)
	}
	p.problem(at, "is defined already %s", where)
}

// keyValue adds "a.b = value" to a table.
func (p *parser) keyValue(t *table, node *unstable.Node, depth int) {
	at := p.keyPlace(node)
	for key := node.Key(); key.Next(); {
		name := string(key.Node().Data)
		if !key.IsLast() {
			depth++
			next, ok := p.descend(t, name, dotted, place{file: at.file, line: at.line})
			if !ok {
				return
			}
			t = next
		}
		if depth > maxDepth {
			p.problem(place{file: at.file, line: at.line}, "keys nest deeper than %d", maxDepth)
			return
		}
		if key.IsLast() {
			p.set(t, name, p.value(node.Value(), place{join(t.path, name), at.file, at.line}, depth+1))
		}
	}
}

func (p *parser) set(t *table, name string, v value) {
	if old, exists := t.members[name]; exists {
		// Each file may say which version of the format it is written in.
		if t != p.root || name != "version" || old.file == v.file {
			p.twice(v.place, old.place)
		} else if old.data == int64(formatVersion) {
			t.members[name] = v // so that a wrong one in any file is found
		}
		return
	}
	t.add(name, v)
}

// value converts a value of the parser's.
func (p *parser) value(node *unstable.Node, at place, depth int) value {
	if depth > maxDepth {
		p.problem(place{file: at.file, line: at.line}, "values nest deeper than %d", maxDepth)
		return value{at, nil}
	}
	switch node.Kind {
	case unstable.String:
		return value{at, string(node.Data)}
	case unstable.Bool:
		return value{at, bytes.Equal(node.Data, []byte("true"))}
	case unstable.Integer:
		n, err := strconv.ParseInt(string(node.Data), 0, 64)
		if err != nil {
			return value{at, other("a number out of range")}
		}
		return value{at, n}
	case unstable.Array:
		return value{at, p.list(node, at, depth)}
	case unstable.InlineTable:
		t := newTable()
		t.place, t.made = at, inline
		for child := node.Children(); child.Next(); {
			p.keyValue(t, child.Node(), depth)
		}
		return value{at, t}
	case unstable.Float:
		return value{at, other("a number with a fraction")}
	case unstable.DateTime:
		return value{at, dateTime(string(node.Data))}
	}
	return value{at, other("a local date or time")}
}

// dateTime reads a date and time with an offset. TOML allows a space and small
// letters where RFC 3339 has T and Z.
func dateTime(text string) any {
	at, err := time.Parse(time.RFC3339Nano, strings.Replace(strings.ToUpper(text), " ", "T", 1))
	if err != nil {
		return other("a date or time that there is not")
	}
	return at.UTC()
}

func (p *parser) list(node *unstable.Node, at place, depth int) []value {
	list := []value{}
	for child := node.Children(); child.Next(); {
		item := child.Node()
		here := place{fmt.Sprintf("%s[%d]", at.path, len(list)), at.file, at.line}
		if item.Raw.Length > 0 {
			here.line = p.line(item.Raw)
		}
		list = append(list, p.value(item, here, depth+1))
	}
	return list
}

func join(path, name string) string {
	if path == "" {
		return quoteKey(name)
	}
	return path + "." + quoteKey(name)
}

// quoteKey writes a key as TOML has it: bare where it can be.
func quoteKey(name string) string {
	if name != "" && strings.Trim(name, bareKey) == "" {
		return name
	}
	return clip(name)
}

const bareKey = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
