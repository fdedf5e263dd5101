package agent

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOnlyDoSigns holds the shape that everything rests on: the keyring is used,
// and a request is sent, in the steps of a pass only, and these are taken by Do only.
func TestOnlyDoSigns(t *testing.T) {
	calls := map[string][]string{} // callee → where it is called
	root := ".."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inKeyring := strings.HasPrefix(path, filepath.Join(root, "agent/keyring"))
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || inKeyring {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		usesKeyring := path == filepath.Join(root, "agent", filepath.Base(path)) || slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool {
			return strings.HasSuffix(i.Path.Value, `agent/keyring"`)
		})
		if !usesKeyring {
			return nil
		}
		for _, declared := range file.Decls {
			function, ok := declared.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(function, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				switch callee := call.Fun.(type) {
				case *ast.SelectorExpr:
					name := callee.Sel.Name
					if on, ok := callee.X.(*ast.Ident); ok && on.Name == "p" {
						name = "p." + name // a step of a pass
					}
					calls[name] = append(calls[name], function.Name.Name)
				case *ast.Ident:
					calls[callee.Name] = append(calls[callee.Name], function.Name.Name)
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for callee, want := range map[string]string{
		"Use": "render", "Sign": "sign", "send": "forward", // what gives a key's work away
		"p.identify": "Do", "p.decide": "Do", "p.render": "Do", "p.sign": "Do", "p.write": "Do", "p.check": "Do", "p.forward": "Do", "p.release": "Do",
	} {
		callers := calls[callee]
		if len(callers) != 1 || callers[0] != want {
			t.Errorf("%s is called by %v, and only %s may, once", callee, callers, want)
		}
	}
}
