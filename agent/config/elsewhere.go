package config

// LoadKeys is Load on another machine than the one that the configuration is for. It
// leaves out roles and callers, and the offline keys: what they name, users and files
// of that host, needn't be here. What it gives has venues and keys.
func LoadKeys(path string) (*Config, Problems) {
	var problems Problems
	files := readFiles(path, &problems)
	l := newLoader(path, problems)
	l.elsewhere = true
	return l.build(files)
}
