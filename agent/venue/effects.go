package venue

import (
	"slices"
	"strings"
)

// What the effects of a request may be at most, since each is judged and recorded.
const (
	// maxOrders is how many orders a batch may have: venues take twenty.
	maxOrders = 64
	// maxText is how long a text of an effect may be, in bytes, maxAddress an address or
	// tag: a Lightning invoice is the longest.
	maxText    = 256
	maxAddress = 2 << 10
)

// effects lists what a request does.
func (v *Venue) effects(r *Request, call *Call) ([]Effect, error) {
	row := call.row
	effects := call.one[:]
	if row == nil {
		effects[0] = Effect{Operation: Unknown, ExactLine: true}
		return effects, nil
	}
	effects[0] = Effect{Operation: row.op, ExactLine: row.exact, Grants: row.grants}
	if row.op == Public || row.anything || row.op == Read && row.judge == nil {
		return effects, nil
	}
	given := r.fields()
	if err := listed(given, row, row.parameters, v.takes); err != nil {
		return nil, err
	}
	switch {
	case row.judge != nil:
		return row.judge(given, row)
	case row.shape == nil:
		return effects, nil
	case row.shape.list != "":
		return batch(given, row)
	}
	err := row.shape.read(given, fields{}, &effects[0])
	if effects[0].Operation == Cancel && strings.Contains(row.path, "{") {
		effects[0].Named = true
	}
	return effects, err
}

// listed refuses a parameter that is in neither of the two lists.
func listed(given fields, row *row, takes, common map[string]parameter) error {
	for p := range given.all() {
		listed, ok := takes[p.name]
		if !ok {
			listed, ok = common[p.name]
		}
		if !ok {
			return bad("%s takes no parameter %s that can be judged", row.line, quote(p.name)).
				WithHint("leave %s out", quote(p.name))
		}
		if err := listed.check(p, given.tape); err != nil {
			return err
		}
	}
	return nil
}

// check refuses a value that the row doesn't take.
func (takes parameter) check(p *value, tape []value) error {
	switch {
	case takes.object:
		return nil
	case takes.list:
		return p.scalarList(tape)
	case !p.scalar():
		return bad("parameter %s has an unexpected type: %s", quote(p.name), p.kind)
	case takes.values == nil:
		return nil
	}
	for word := range strings.SplitSeq(p.text, ",") {
		if !slices.Contains(takes.values, word) {
			return bad("parameter %s may be %s only", quote(p.name), strings.Join(takes.values, ", ")).
				WithHint("other values change what the order does in a way that can't be judged")
		}
	}
	return nil
}

// list gives the JSON that a value holds, on its own tape or as its text, and
// where the list begins in it.
func (v *value) list(tape []value) (list []value, node int, err error) {
	if v.kind != untyped {
		list, node = tape, v.node(tape)
	} else if list, err = parseJSON(v.text); err != nil {
		return nil, 0, bad("the JSON in parameter %s %s", quote(v.name), err)
	}
	switch {
	case list[node].kind != array:
		return nil, 0, bad("parameter %s has an unexpected type: %s", quote(v.name), list[node].kind)
	case list[node].next == node+1:
		return nil, 0, bad("the list in parameter %s is empty", quote(v.name))
	}
	return list, node, nil
}

// scalarList refuses a value that is no list of scalars.
func (v *value) scalarList(tape []value) error {
	tape, node, err := v.list(tape)
	if err != nil {
		return err
	}
	for _, element := range elements(tape, node) {
		if !element.scalar() || element.kind == null {
			return bad("the list in parameter %s holds %s", quote(v.name), element.kind)
		}
	}
	return nil
}

// batch reads each order of a batch as an effect of its own.
func batch(given fields, row *row) ([]Effect, error) {
	tape, node := given.tape, 0
	if name := row.shape.list; name != "*" {
		list := given.get(name)
		if list == nil {
			return nil, bad("%s wants its orders in parameter %s", row.line, quote(name))
		}
		var err error
		if tape, node, err = list.list(given.tape); err != nil {
			return nil, err
		}
	}
	var effects []Effect
	for at, element := range elements(tape, node) {
		if element.kind != object {
			return nil, bad("a batch of %s holds %s in place of an order", row.line, element.kind)
		}
		if len(effects) == maxOrders {
			return nil, bad("a batch of %s has more than %d orders", row.line, maxOrders)
		}
		item := fields{tape: tape, node: at}
		if err := listed(item, row, row.shape.items, nil); err != nil {
			return nil, err
		}
		effects = append(effects, Effect{Operation: row.op, ExactLine: row.exact})
		if err := row.shape.read(item, given, &effects[len(effects)-1]); err != nil {
			return nil, err
		}
	}
	if len(effects) == 0 {
		return nil, bad("%s has no orders in its batch", row.line)
	}
	return effects, nil
}

// node gives the index of a value on its tape.
func (v *value) node(tape []value) int {
	for i := range tape {
		if &tape[i] == v {
			return i
		}
	}
	return len(tape)
}

// read fills an effect. A field that the item of a batch doesn't have is looked
// for in the parameters around it.
func (s *shape) read(item, around fields, e *Effect) error {
	var err error
	get := func(name string, to *string, kinds ...kind) {
		if name == "" || err != nil {
			return
		}
		p := item.get(name)
		if p == nil {
			p = around.get(name)
		}
		if p == nil {
			return
		}
		if p.kind != untyped && !slices.Contains(kinds, p.kind) {
			err = bad("parameter %s has an unexpected type: %s", quote(name), p.kind)
			return
		}
		*to = p.text
	}
	get(s.symbol, &e.Symbol, str)
	get(s.side, &e.Side, str)
	get(s.kind, &e.Type, str)
	get(s.quantity, &e.Quantity, str, number)
	get(s.quote, &e.QuoteQuantity, str, number)
	get(s.price, &e.Price, str, number)
	get(s.client, &e.ClientOrderID, str, number)
	get(s.asset, &e.Asset, str)
	get(s.network, &e.Network, str)
	get(s.address, &e.Address, str)
	get(s.tag, &e.Tag, str, number)
	if err != nil {
		return err
	}
	if e.Side, err = side(e.Side); err != nil {
		return err
	}
	if s.names != "" {
		if e.Named = s.named(item); !e.Named {
			return bad("the request names no order to cancel; it wants one of %s", s.names)
		}
	}
	if s.fix != nil {
		return s.fix(e, item, around)
	}
	return nil
}

// named tells whether one of the parameters that name orders is there.
func (s *shape) named(f fields) bool {
	for name := range strings.FieldsSeq(s.names) {
		if p := f.get(name); p != nil && (p.text != "" || !p.scalar()) {
			return true
		}
	}
	return false
}

// short refuses effects with texts longer than any venue takes.
func short(effects []Effect) error {
	for i := range effects {
		e := &effects[i]
		for _, text := range [...]string{e.Symbol, e.Type, e.Quantity, e.QuoteQuantity, e.Price, e.ClientOrderID, e.Asset, e.Network} {
			if len(text) > maxText {
				return bad("the request has a symbol, id or number of %d bytes, and %d is the limit", len(text), maxText)
			}
		}
		if longest := max(len(e.Address), len(e.Tag)); longest > maxAddress {
			return bad("the request has an address or tag of %d bytes, and %d is the limit", longest, maxAddress)
		}
	}
	return nil
}

// side gives the venue's word for the side as the agent's.
func side(word string) (string, error) {
	switch {
	case word == "":
		return "", nil
	case strings.EqualFold(word, "buy"):
		return "buy", nil
	case strings.EqualFold(word, "sell"):
		return "sell", nil
	}
	return "", bad("the side of the order is neither buy nor sell")
}
