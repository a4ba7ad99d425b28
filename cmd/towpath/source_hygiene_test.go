package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path of the module under test, as in go.mod.
const module = "github.com/towpath/towpath"

// maxLines is the longest a non-test file may be. The aim is below 400; at 600 it holds two things.
const maxLines = 600

// sourceFile is one parsed Go file of the module. Files of every build tag are read, so that nothing hides behind one.
type sourceFile struct {
	path  string // relative to the root, with slashes
	pkg   string // folder relative to the root; "." for the root
	test  bool   // a _test.go file, or any file of a package whose name ends in "test"
	lines int
	fset  *token.FileSet
	ast   *ast.File
}

// position says where a node is, as path:line.
func (f *sourceFile) position(p token.Pos) string {
	return f.path + ":" + strconv.Itoa(f.fset.Position(p).Line)
}

// imports calls yield with each imported path and its position.
func (f *sourceFile) imports(yield func(path, position string)) {
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser accepted the file, so this cannot be
		}
		yield(p, f.position(spec.Pos()))
	}
}

// moduleRoot walks up to the folder with go.mod.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = parent
	}
}

// isTestPackage reports whether a package exists only for tests. The command's own folder is not meant.
func isTestPackage(pkg string) bool {
	for elem := range strings.SplitSeq(pkg, "/") {
		if strings.HasSuffix(elem, "test") {
			return true
		}
	}
	return false
}

// skipDir names folders without product source.
func skipDir(name string) bool {
	return name == "testdata" || name == "vendor" || name == "bin" || name == "dist" || strings.HasPrefix(name, ".")
}

// loadSource parses every Go file of the module.
func loadSource(t *testing.T) []*sourceFile {
	t.Helper()
	root := moduleRoot(t)
	var files []*sourceFile
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != root && skipDir(d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, rel, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s: does not parse: %v", rel, err)
			return nil
		}
		pkg := path.Dir(rel)
		files = append(files, &sourceFile{
			path:  rel,
			pkg:   pkg,
			test:  strings.HasSuffix(rel, "_test.go") || isTestPackage(pkg),
			lines: fset.File(parsed.Package).LineCount(),
			fset:  fset,
			ast:   parsed,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("found no Go files: the test reads the wrong folder")
	}
	return files
}

// TestPackageComments wants every package to say in doc.go what it is for.
func TestPackageComments(t *testing.T) {
	documented := map[string]bool{}
	packages := map[string]string{} // folder → package name
	for _, f := range loadSource(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		packages[f.pkg] = f.ast.Name.Name
		if path.Base(f.path) == "doc.go" && f.ast.Doc != nil {
			want := "Package " + f.ast.Name.Name + " "
			if f.ast.Name.Name == "main" {
				want = "Command " + path.Base(f.pkg) + " "
			}
			if text := f.ast.Doc.Text(); !strings.HasPrefix(text, want) {
				t.Errorf("%s: the package comment starts %q, want %q: go doc prints it", f.path, firstWords(text), want)
			}
			documented[f.pkg] = true
		}
	}
	for pkg, name := range packages {
		if !documented[pkg] {
			t.Errorf("%s/doc.go: package %s has no package comment there: say what it is for, what it never does and who owns its state", pkg, name)
		}
	}
}

func firstWords(s string) string {
	fields := strings.Fields(s)
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// TestFileLength keeps files to one noun.
func TestFileLength(t *testing.T) {
	for _, f := range loadSource(t) {
		if !strings.HasSuffix(f.path, "_test.go") && f.lines > maxLines {
			t.Errorf("%s: %d lines, at most %d: split it by noun", f.path, f.lines, maxLines)
		}
	}
}

// promise finds words that put work off; issueNumber is what makes them acceptable.
var (
	promise     = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	issueNumber = regexp.MustCompile(`#\d+`)
)

// TestNoUnnumberedTODO wants work that was put off to have an issue.
func TestNoUnnumberedTODO(t *testing.T) {
	for _, f := range loadSource(t) {
		if path.Base(f.path) == "source_hygiene_test.go" {
			continue // names the words it looks for
		}
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if word := promise.FindString(c.Text); word != "" && !issueNumber.MatchString(c.Text) {
					t.Errorf("%s: %s without an issue number: write %s(#123) or do it now", f.position(c.Pos()), word, word)
				}
			}
		}
	}
}

// TestGoMod keeps the module buildable by others: no replace directives, and each direct dependency explained.
func TestGoMod(t *testing.T) {
	root := moduleRoot(t)
	direct, replaces := readGoMod(t, filepath.Join(root, "go.mod"))
	for _, line := range replaces {
		t.Errorf("go.mod: %q: a replace does not reach those who import or install the module", line)
	}
	if len(direct) == 0 {
		t.Fatal("go.mod: found no direct dependency: the test cannot read it any more")
	}
	explained, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatalf("docs/dependencies.md must say why each dependency is there: %v", err)
	}
	lines := strings.Split(string(explained), "\n")
	for _, mod := range direct {
		if !slices.ContainsFunc(lines, func(l string) bool { return mentions(l, mod) }) {
			t.Errorf("docs/dependencies.md: no line for %s: say what it is for and what was passed over", mod)
		}
	}
}

// mentions reports whether line names exactly the module, not merely one whose path starts like it.
func mentions(line, mod string) bool {
	for {
		i := strings.Index(line, mod)
		if i < 0 {
			return false
		}
		rest := line[i+len(mod):]
		if rest == "" || !strings.ContainsAny(rest[:1], "/-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") {
			return true
		}
		line = rest
	}
}

// readGoMod returns the paths of the direct requirements and all replace directives. The format is line based; go.mod is always
// written by the go command, so this needs no parser of its own.
func readGoMod(t *testing.T, name string) (direct, replaces []string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	block := ""
	for line := range strings.SplitSeq(string(data), "\n") {
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || strings.HasPrefix(line, "//"):
			continue
		case line == ")":
			block = ""
			continue
		case strings.HasSuffix(line, "("):
			block = verb
			continue
		case block == "":
			line = strings.TrimSpace(rest)
		default:
			verb = block
		}
		switch verb {
		case "replace":
			replaces = append(replaces, line)
		case "require":
			if !strings.HasSuffix(line, "// indirect") {
				mod, _, _ := strings.Cut(line, " ")
				direct = append(direct, mod)
			}
		}
	}
	return direct, replaces
}
