package venue

// Lines are the requests that the table knows, as "METHOD /path", by what they do.
func (v *Venue) Lines() map[Operation][]string {
	lines := make(map[Operation][]string)
	for i := range v.rows {
		lines[v.rows[i].op] = append(lines[v.rows[i].op], v.rows[i].line)
	}
	return lines
}

// Least is the binding of a request without parameters: what its signature leaves
// open, that of every request of the venue does. ok is false where the venue takes
// no such request, and nothing is known.
func (v *Venue) Least(environment string) (b Binding, ok bool) {
	for _, host := range v.Hosts(environment) {
		r, err := NewRequest("POST", host, "/", "", nil)
		if err != nil {
			continue
		}
		if call, err := v.Classify(&r); err == nil && !call.Public() {
			return call.Binding, true
		}
	}
	return Binding{}, false
}
