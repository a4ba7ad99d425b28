package main_test

import (
	"go/ast"
	"strings"
	"testing"
)

// TestNoSleepToWait looks for tests that sleep and hope. In a testing/synctest bubble sleeping lets fake time pass; elsewhere a sleep
// must be the pause of a loop that polls, or wait for a channel instead.
func TestNoSleepToWait(t *testing.T) {
	for _, f := range loadSource(t) {
		if !strings.HasSuffix(f.path, "_test.go") || importsPath(f, "testing/synctest") {
			continue
		}
		var loops []ast.Node
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.ForStmt, *ast.RangeStmt:
				loops = append(loops, n)
			}
			return true
		})
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if id, ok := sel.X.(*ast.Ident); !ok || id.Name != "time" {
				return true
			}
			for _, l := range loops {
				if l.Pos() <= sel.Pos() && sel.End() <= l.End() {
					return true
				}
			}
			t.Errorf("%s: time.Sleep outside a loop and without testing/synctest: wait for what you wait for", f.position(sel.Pos()))
			return true
		})
	}
}

func importsPath(f *sourceFile, path string) bool {
	found := false
	f.imports(func(p, _ string) { found = found || p == path })
	return found
}
