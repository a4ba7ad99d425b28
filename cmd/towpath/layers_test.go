package main_test

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// room is one row of the house.
type room struct {
	pkg string
	may string // patterns, separated by spaces; empty for nothing of ours
	why string
}

// Patterns in this file are folders relative to the module's root. "x" is that package alone, "x/..." is x and all below it.

// house says what each package may import of ours. The first row that fits a package is its row; a package without a row has no
// place in the house. A row is about product code: tests and *test packages may also go sideways, but walls hold for them too.
var house = []room{
	// Level 0: pure. They are the parts that others can trust without reading anything else.
	{"ipam", "", "the address plan must be provable from its own source"},
	{"ipam/plandoc", "ipam", "a plan as a document knows prefixes and words, nothing else"},
	{"tunnel/wgkey", "", "keys are used by both sides of the house and may drag nothing along"},
	{"proxy/dicom/pdu", "", "a codec knows its standard and nothing else"},
	{"proxy/hl7/mllp", "", "a codec knows its standard and nothing else"},
	{"proxy/hl7/gdt", "", "a format of other people's files knows its standard and nothing else"},
	{"proxy/hl7", "proxy/hl7/mllp proxy proxy/spool", "HL7 uses its framing, the door and the queue"},
	{"proxy/codec", "", "the codec turns bytes into bytes"},
	{"proxy/spool/seal", "", "who seals bytes need not know whose they are, nor where they lie"},

	// Level 1: nouns of each mechanism.
	{"tunnel", "tunnel/wgkey", "the Device interface must not know its implementations"},
	{"proxy", "", "what every protocol shares cannot know one of them"},
	{"proxy/spool", "proxy/spool/seal", "the queue holds bytes; whose they are is its callers' business"},
	{"provisioning/wire", "tunnel/wgkey", "the contract is linked into boxes and coordinator alike"},
	{"proxy/dicom/ul", "proxy/dicom/pdu", "the upper layer speaks in PDUs and knows no services"},
	{"proxy/dicom/dimse", "proxy/dicom/pdu proxy/dicom/ul", "DIMSE stands on the upper layer"},

	// Level 2: mechanisms.
	{"tunnel/path", "tunnel/wgkey", "where packets go is decided by a pure function of probes and time"},
	{"tunnel/steer", "tunnel/path tunnel/wgkey", "who carries out what is decided knows devices only as their socket"},
	{"tunnel/portmap", "tunnel", "who asks a router knows one mark and no device"},
	{
		"tunnel/...", "tunnel tunnel/wgkey tunnel/link tunnel/uapi tunnel/capture tunnel/path tunnel/steer tunnel/internal/...",
		"backends know the noun, the link, the tap, the protocol and whom their packets are steered by, not each other",
	},
	{"proxy/dicom/phantom", "proxy/dicom proxy/dicom/pdu", "a phantom is only a file with plausible content"},
	{"proxy/dicom/poll", "proxy/dicom proxy/spool", "polling asks an archive and fills a queue"},
	{"proxy/dicom", "proxy proxy/spool proxy/dicom/...", "a protocol knows its codecs, the door and the queue"},
	{
		"proxy/dicom/...", "proxy proxy/spool proxy/dicom proxy/dicom/pdu proxy/dicom/ul proxy/dicom/dimse",
		"a protocol knows its codecs, the door and the queue",
	},
	{"proxy/hl7/...", "proxy proxy/spool proxy/hl7 proxy/hl7/mllp", "a protocol knows its codecs, the door and the queue"},
	{"proxy/lantls", "proxy", "TLS on the LAN stands before every protocol and knows none"},
	{"proxy/transfer/...", "proxy proxy/spool proxy/codec", "a transfer moves spooled items through the door"},
	{"provisioning", "ipam tunnel/wgkey provisioning/wire", "nouns and rules, no machinery"},
	{"provisioning/netmap", "provisioning ipam provisioning/wire tunnel/wgkey", "compiling is a pure function of nouns"},
	{
		"provisioning/store/...", "provisioning ipam tunnel/wgkey provisioning/wire provisioning/store/...",
		"a store keeps nouns and decides nothing",
	},
	{
		"provisioning/prove", "provisioning ipam ipam/plandoc tunnel/wgkey provisioning/netmap provisioning/wire",
		"a proof believes neither database nor coordinator",
	},
	{"provisioning/audit", "provisioning ipam provisioning/store", "the trail records nouns"},

	// Level 3: deciders and appliers.
	{
		"provisioning/coordinator",
		"provisioning ipam ipam/plandoc tunnel/wgkey provisioning/netmap provisioning/prove provisioning/store provisioning/audit provisioning/wire",
		"the coordinator works on the Store interface, whichever engine is behind it",
	},
	{
		"provisioning/hub", "provisioning provisioning/coordinator provisioning/nodeapi provisioning/wire tunnel/...",
		"the hub is the coordinator's own WireGuard endpoint",
	},
	{
		"provisioning/nodeapi", "provisioning provisioning/coordinator provisioning/wire tunnel/wgkey",
		"an API translates; rules are the coordinator's",
	},
	{
		"provisioning/adminapi", "provisioning provisioning/coordinator provisioning/auth provisioning/prove provisioning/wire ipam ipam/plandoc tunnel/wgkey",
		"an API translates; rules are the coordinator's",
	},
	{"provisioning/web", "provisioning provisioning/coordinator provisioning/auth", "pages show; rules are the coordinator's"},
	{"provisioning/auth", "provisioning provisioning/coordinator", "auth knows operators only"},
	{"gateway/health", "", "conditions are words that every part of the box uses"},
	{"gateway/doctor", "provisioning/wire", "a doctor is told what others have found out"},
	{"gateway/mtu", "", "what is tried and what came of it is all that counts"},
	{"gateway/pairkey", "tunnel/wgkey", "what two boxes agree on is decided by messages and time, whoever carries them"},
	{"gateway/receipts", "", "a journal keeps what it is told"},
	{"gateway/history", "", "a history keeps what it is told, and knows neither queues nor protocols"},
	{"gateway/standby", "provisioning/wire proxy", "the choice between gateways knows maps and connections, and no tunnel"},
	{"gateway/state/tpm", "", "a key store seals bytes; whose they are is its callers' business"},
	{"gateway", "gateway/... tunnel/... proxy/... provisioning/wire", "the daemon drives mechanisms by the contract"},
	{"gateway/...", "gateway/... tunnel/... proxy/... provisioning/wire", "the daemon drives mechanisms by the contract"},
	{"cmd/...", "...", "wiring of every role is here and only here"},
	{"images/...", "images/...", "what builds disks is no part of the product"},
}

// walls hold for tests too, whatever a row says. Code that needs both sides of one lives under cmd.
var walls = []struct {
	from, to string
	except   []string
	why      string
}{
	{"tunnel/...", "proxy/...", nil, "tunnel and proxy never meet: proxy code reaches the tunnel only through a proxy.Network that it is handed"},
	{"proxy/...", "tunnel/...", nil, "tunnel and proxy never meet: proxy code reaches the tunnel only through a proxy.Network that it is handed"},
	{"gateway/...", "provisioning/...", []string{"provisioning/wire"}, "gateway and provisioning share exactly provisioning/wire: a box must not contain the coordinator's code"},
	{"provisioning/...", "gateway/...", nil, "gateway and provisioning share exactly provisioning/wire: the coordinator must not contain a box's code"},
	{"provisioning/...", "proxy/...", nil, "the coordinator never carries clinical bytes"},
	{"...", "cmd/...", nil, "nobody imports the command"},
	{"...", "images/...", nil, "images ship the product and are no part of it"},
}

// outside says which packages of other modules, and which of the standard library with a fixed place, may be imported where.
var outside = []struct {
	imports  []string // import paths; "x/..." is x and all below it
	only     []string // where product code may
	tests    bool     // tests and *test packages may, wherever they are
	testOnly []string // where, besides only, tests and *test packages may
	why      string
}{
	{
		imports: []string{"database/sql/...", "modernc.org/sqlite/...", "github.com/jackc/pgx/...", "github.com/pressly/goose/..."},
		only:    []string{"provisioning/store/..."}, why: "SQL lives behind provisioning/store.Store",
	},
	{
		imports: []string{
			"github.com/vishvananda/netlink/...", "github.com/vishvananda/netns/...", "golang.zx2c4.com/wireguard/...",
			"gvisor.dev/gvisor/...", "github.com/google/nftables/...", "github.com/mdlayher/netlink/...",
		},
		only:     []string{"tunnel/..."},
		testOnly: []string{"gateway/gatewaytest/...", "cmd/..."}, why: "the operating system's and WireGuard's network interfaces are tunnel's trade",
	},
	{
		imports: []string{"github.com/google/go-tpm/..."},
		only:    []string{"gateway/state/tpm/..."}, why: "the key store's interface is bytes in, bytes out",
	},
	{
		imports: []string{"software.sslmate.com/src/go-pkcs12/..."},
		only:    []string{"gateway/sitecert"}, tests: true, why: "keys of devices are made, wrapped and handed over in one place",
	},
	{
		imports: []string{"github.com/danielgtaylor/huma/..."},
		only:    []string{"provisioning/adminapi"}, why: "the HTTP framework stays replaceable",
	},
	{
		imports: []string{"github.com/urfave/cli/...", "flag"},
		only:    []string{"cmd/..."}, tests: true, why: "commands and flags are the command's",
	},
	{
		imports: []string{"github.com/suyashkumar/dicom/..."},
		only:    []string{"proxy/dicom/phantom", "cmd/..."}, tests: true,
		why: "the library re-encodes and allocates without limit: it may make and show files, never carry a patient's",
	},
	{
		imports: []string{"github.com/klauspost/compress/..."},
		only:    []string{"proxy/codec"}, tests: true, why: "compression is the codec's trade: it bounds what it decodes",
	},
	{
		imports: []string{
			"testing/...", "github.com/google/go-cmp/...", "pgregory.net/rapid/...", "go.uber.org/goleak/...",
			"github.com/rogpeppe/go-internal/...",
		},
		only: nil, tests: true, why: "test libraries are not linked into the product",
	},
	{
		imports: []string{"log"},
		only:    nil, why: "logging is an injected *slog.Logger",
	},
}

// pure packages may import nothing of the standard library that touches the world. Of other modules they import what standardOnly and
// outside leave.
var pure = []string{"ipam", "ipam/plandoc", "proxy/dicom/pdu", "proxy/hl7/mllp", "proxy/hl7/gdt", "proxy/codec"}

// standardOnly packages may import nothing of other modules; ours as their row says.
var standardOnly = []string{
	"ipam", "tunnel/wgkey", "proxy/dicom/pdu", "proxy/hl7/mllp", "proxy/hl7", "tunnel", "proxy",
	"provisioning/wire", "provisioning", "provisioning/netmap", "provisioning/prove", "ipam/plandoc",
}

// worldly are the standard packages by which code reaches the world.
var worldly = []string{"os/...", "net", "net/http/...", "log/...", "syscall", "database/sql/..."}

// bans forbid names of imported packages. A name ending in "*" stands for all that begin with it.
var bans = []struct {
	names  []string // "import/path.Name"
	where  []string
	except []string
	tests  bool // also in tests and *test packages
	why    string
}{
	{[]string{"context.TODO"}, []string{"..."}, nil, true, "there is always a context to pass on"},
	{
		[]string{"os.Getenv", "os.LookupEnv", "os.Environ", "os.Exit"},
		[]string{"..."},
		[]string{"cmd/..."},
		false,
		"the environment and the exit code belong to the command",
	},
	{
		[]string{
			"net.Dial*", "net.Listen", "net.ListenConfig", "net.ListenPacket", "net.ListenTCP", "net.ListenUDP", "net.ListenUnix", "net.ListenUnixgram",
			"net.ListenIP", "net.ListenMulticastUDP", "net.FileConn", "net.FileListener", "net.FilePacketConn", "crypto/tls.Dial*", "crypto/tls.Listen", "net/http.*",
		},
		[]string{"proxy/..."},
		nil,
		false,
		"the only door of proxy code is the proxy.Network it is handed",
	},
	{
		[]string{
			"net/http.DefaultClient", "net/http.DefaultTransport", "net/http.DefaultServeMux", "net/http.Get", "net/http.Head",
			"net/http.Post", "net/http.PostForm", "net/http.Handle", "net/http.HandleFunc",
		},
		[]string{"..."},
		[]string{"cmd/..."},
		false,
		"process-wide HTTP state follows proxies of the environment and has no time limit",
	},
	{
		[]string{
			"log/slog.Default", "log/slog.SetDefault", "log/slog.With", "log/slog.Log", "log/slog.LogAttrs", "log/slog.Debug",
			"log/slog.DebugContext", "log/slog.Info", "log/slog.InfoContext", "log/slog.Warn", "log/slog.WarnContext", "log/slog.Error",
			"log/slog.ErrorContext",
		},
		[]string{"..."},
		nil,
		false,
		"loggers are handed in: a process-wide one cannot be kept free of patient data",
	},
	{
		[]string{"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After*", "time.New*", "time.Tick"},
		[]string{"ipam", "proxy/dicom/pdu", "proxy/hl7/mllp", "proxy/codec", "provisioning/netmap"},
		nil,
		false,
		"a pure function takes now as an argument",
	},
}

func match(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pattern == pkg
}

func matchAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, pkg) })
}

// ours returns the folder of an import of this module.
func ours(imported string) (string, bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

// standard reports whether an import is of the standard library: its first element has no dot.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// breach is one forbidden import and the reason.
func breach(pkg, imported string, test bool) string {
	if in, ok := ours(imported); ok {
		return inHouse(pkg, in, test)
	}
	if standard(imported) {
		if !test && matchAny(pure, pkg) && matchAny(worldly, imported) {
			return "the package is pure: no I/O, no logging"
		}
	} else if !test && matchAny(standardOnly, pkg) {
		return "the package imports the standard library only"
	}
	for _, o := range outside {
		if !matchAny(o.imports, imported) || matchAny(o.only, pkg) || (test && (o.tests || matchAny(o.testOnly, pkg))) {
			continue
		}
		where := "nowhere in product code"
		if len(o.only) > 0 {
			where = "only in " + strings.Join(o.only, ", ")
		}
		return where + ": " + o.why
	}
	return ""
}

// inHouse judges an import of one of our packages.
func inHouse(pkg, in string, test bool) string {
	if pkg == in {
		return "" // an external test imports what it tests
	}
	if !match("cmd/...", pkg) {
		for _, w := range walls {
			if match(w.from, pkg) && match(w.to, in) && !match(w.to, pkg) && !matchAny(w.except, in) {
				return w.why
			}
		}
	}
	if test {
		return ""
	}
	if isTestPackage(in) {
		return "packages whose name ends in test are imported by tests only"
	}
	for _, row := range house {
		if match(row.pkg, pkg) {
			patterns := strings.Fields(row.may)
			if matchAny(patterns, in) {
				return ""
			}
			may := "nothing of ours"
			if len(patterns) > 0 {
				may = "of ours only " + strings.Join(patterns, ", ")
			}
			return fmt.Sprintf("%s may import %s: %s", row.pkg, may, row.why)
		}
	}
	return "" // TestEveryPackageHasAPlace says so once
}

// TestEveryPackageHasAPlace wants each package to have a row in the house.
func TestEveryPackageHasAPlace(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range loadSource(t) {
		if seen[f.pkg] || isTestPackage(f.pkg) {
			continue
		}
		seen[f.pkg] = true
		if !slices.ContainsFunc(house, func(r room) bool { return match(r.pkg, f.pkg) }) {
			t.Errorf("%s: no row in the house (layers_test.go): decide its level and what it may import", f.pkg)
		}
	}
}

// TestLayers reads the imports of every file and holds them against the house, the walls and the places of other modules.
func TestLayers(t *testing.T) {
	for _, f := range loadSource(t) {
		f.imports(func(imported, position string) {
			if why := breach(f.pkg, imported, f.test); why != "" {
				t.Errorf("%s: %s imports %s\n\t%s", position, f.pkg, imported, why)
			}
		})
	}
}

// TestLayersCatch proves that the rules can fail: each line is an import that must be refused, or one that must pass.
func TestLayersCatch(t *testing.T) {
	for _, c := range []struct {
		pkg, imported string
		test, refused bool
	}{
		{"tunnel/userspace", module + "/proxy", false, true},
		{"tunnel/tunneltest", module + "/proxy", true, true},
		{"proxy/dicom", module + "/tunnel", false, true},
		{"gateway/reconcile", module + "/provisioning", false, true},
		{"gateway/reconcile", module + "/provisioning/wire", false, false},
		{"gateway/gatewaytest", module + "/provisioning/coordinator", true, true},
		{"provisioning/hub", module + "/gateway", false, true},
		{"provisioning/coordinator", module + "/provisioning/store/sqlite", false, true},
		{"provisioning/coordinator", module + "/provisioning/store/sqlite", true, false},
		{"ipam", module + "/provisioning", false, true},
		{"ipam", "os", false, true},
		{"ipam", "net/netip", false, false},
		{"ipam", "go4.org/netipx", false, true},
		{"proxy/hl7/mllp", "log/slog", false, true},
		{"proxy/codec", "os", false, true},
		{"proxy/codec", module + "/proxy/spool", false, true},
		{"proxy/codec", "github.com/klauspost/compress/zstd", false, false},
		{"proxy/codec", "github.com/suyashkumar/dicom", false, true},
		{"proxy/transfer", "github.com/klauspost/compress/zstd", false, true},
		{"provisioning/coordinator", "modernc.org/sqlite", false, true},
		{"provisioning/store/sqlite", "modernc.org/sqlite", false, false},
		{"gateway/reconcile", "github.com/vishvananda/netlink", false, true},
		{"tunnel/userspace", "golang.zx2c4.com/wireguard/device", false, false},
		{"provisioning/nodeapi", "github.com/danielgtaylor/huma/v2", false, true},
		{"gateway", "github.com/urfave/cli/v2", false, true},
		{"gateway", "flag", false, true},
		{"proxy/dicom", "github.com/suyashkumar/dicom", false, true},
		{"proxy/dicom", module + "/proxy/proxytest", false, true},
		{"proxy/dicom", module + "/proxy/proxytest", true, false},
		{"proxy/dicom", "pgregory.net/rapid", false, true},
		{"proxy", module + "/cmd/towpath", true, true},
		{"gateway", module + "/images/internal/kmod", true, true},
		{"images/vmtest/vminit", module + "/images/internal/kmod", false, false},
		{"images/vmtest/vminit", module + "/tunnel", false, true},
		{"cmd/towpath", module + "/provisioning/store/sqlite", false, false},
	} {
		if why := breach(c.pkg, c.imported, c.test); (why != "") != c.refused {
			t.Errorf("%s importing %s (test %v): refused %v (%q), want %v", c.pkg, c.imported, c.test, why != "", why, c.refused)
		}
	}
}

// TestBans looks for forbidden names of the standard library.
func TestBans(t *testing.T) {
	for _, f := range loadSource(t) {
		names := map[string]string{} // local name → import path
		for _, spec := range f.ast.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatalf("%s: %v", f.path, err)
			}
			local := path.Base(p)
			if spec.Name != nil {
				local = spec.Name.Name
			}
			names[local] = p
			if local == "." {
				t.Errorf("%s: dot import of %s: nobody can see where a name comes from", f.position(spec.Pos()), p)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			id, ok := sel.X.(*ast.Ident)
			if !ok || names[id.Name] == "" {
				return true
			}
			full := names[id.Name] + "." + sel.Sel.Name
			if why := banned(f.pkg, full, f.test); why != "" {
				t.Errorf("%s: %s\n\t%s", f.position(sel.Pos()), full, why)
			}
			return true
		})
	}
}

// banned returns why a name may not be used in a package.
func banned(pkg, name string, test bool) string {
	for _, b := range bans {
		if (test && !b.tests) || !matchAny(b.where, pkg) || matchAny(b.except, pkg) {
			continue
		}
		for _, pattern := range b.names {
			if prefix, ok := strings.CutSuffix(pattern, "*"); name == pattern || (ok && strings.HasPrefix(name, prefix)) {
				return b.why
			}
		}
	}
	return ""
}

// TestNoInitNoGlobalLogger forbids what runs or speaks without being asked.
func TestNoInitNoGlobalLogger(t *testing.T) {
	for _, f := range loadSource(t) {
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.Errorf("%s: func init: constructors are called, and tests can call them differently", f.position(d.Pos()))
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok && mentionsLogger(v) {
						t.Errorf("%s: package-level logger %s: loggers are handed in", f.position(v.Pos()), v.Names[0].Name)
					}
				}
			}
		}
	}
}

// mentionsLogger reports whether a package-level variable holds a logger, by its type or by how it is made.
func mentionsLogger(v *ast.ValueSpec) bool {
	found := false
	look := func(n ast.Node) {
		if n == nil {
			return
		}
		ast.Inspect(n, func(n ast.Node) bool {
			if _, ok := n.(*ast.FuncLit); ok {
				return false
			}
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if id, ok := sel.X.(*ast.Ident); ok && (id.Name == "slog" || id.Name == "log") && (sel.Sel.Name == "Logger" || sel.Sel.Name == "New" || sel.Sel.Name == "Default") {
					found = true
				}
			}
			return !found
		})
	}
	if v.Type != nil {
		if _, isFunc := v.Type.(*ast.FuncType); !isFunc {
			look(v.Type)
		}
	}
	for _, value := range v.Values {
		look(value)
	}
	return found
}
