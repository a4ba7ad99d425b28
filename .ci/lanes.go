//go:build ignore

// Command lanes runs the test lanes that this machine allows and says which ran, which could not and why, and every test that was
// skipped with its reason. It is started by make test, make lab and make vm:
//
//	go run .ci/lanes.go [-only LANE] [-summary FILE] [ARGUMENTS OF go test]
//
// It fails when a test fails. With CI=true and as root, where everything can be had, it also fails on a lane that cannot run and on
// a skip that .ci/expected-skips does not name. In the lane vm nothing may ever be skipped: its machine has everything. Arguments, which need
// -only, replace the packages and limits of that lane.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// lane is one way of testing.
type lane struct {
	name string
	what string
	// lacks says why the lane cannot run here; nil means it can.
	lacks func() []string
	// args are those of go test. A lane without runs nothing: it shows the results of another lane whose test name matches.
	args  []string
	of    string
	tests *regexp.Regexp
	// talk prints what the tests log even when they pass.
	talk bool
	// prepare returns more arguments, those that are found out on the way. Its error is what the lane lacks.
	prepare func() ([]string, error)
	// noSkips makes every skip a failure.
	noSkips bool
}

var lanes = []lane{
	{
		name: "unit", what: "all packages",
		lacks: func() []string { return nil },
		args:  []string{"-timeout", "10m", "./..."},
	},
	{
		name: "peers", what: "of unit: real DICOM and HL7 programs as peers; makes docs/peer-matrix.md",
		lacks: programs("storescu", "storescp", "echoscu", "Orthanc", "mllp_send"),
		of:    "unit", tests: regexp.MustCompile(`(?i)(dcm(tk|dump|send)|orthanc|storesc|echoscu|python|mllp_?send|netcat|peer)`),
	},
	{
		name: "lab", what: "network namespaces, real programs, packet capture",
		lacks: labLacks,
		args:  []string{"-tags", "lab", "-run", "^TestLab", "-count", "1", "-p", "1", "-timeout", "20m", "./tunnel/tunneltest/...", "./gateway/gatewaytest/..."},
		talk:  true,
	},
	{
		name: "vm", what: "as root in a virtual machine with Debian's kernel: kernel WireGuard, routes, netem, nftables",
		lacks:   programs("qemu-system-x86_64", "apt-get", "dpkg-deb", "ip", "nft", "wg"),
		prepare: machine, noSkips: true,
		args: []string{"-run", vmTests, "-count", "1", "-p", "1", "-timeout", "5m", "./tunnel/kernel", "./tunnel/turn", "./tunnel/link", "./tunnel/tunneltest", "./cmd/towpath", "./gateway/crashtest"},
	},
	{
		name: "power", what: "a virtual machine that takes objects loses its power, and starts again with the same disk",
		lacks: programs("qemu-system-x86_64", "apt-get", "dpkg-deb", "mkfs.ext4"), noSkips: true, talk: true,
		args: []string{"-run", "^TestPowerLoss$", "-count", "1", "-timeout", "5m", "./images/vmtest", "-power.runs", "2"},
	},
}

// vmTests are those that need another kernel than that of a builder. Of package turn, which otherwise knows no kernel, it is these.
const vmTests = "^Test(Contract|ContractKernel|StreamSurvivesInTheKernel|Interface|TakesOver.*|CleansUp.*|Leaves.*|PutsRight.*|Keeps.*|Many.*|Foreign.*|Machine.*|Kernel.*)$"

// machine prepares the VM.
func machine() ([]string, error) {
	cmd := exec.Command("go", "run", "./images/vmtest", "prepare")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s", strings.Join(strings.Fields(said.String()), " "))
	}
	fmt.Print(said.String())
	return []string{"-exec", strings.TrimSpace(string(out))}, nil
}

func programs(names ...string) func() []string {
	return func() []string {
		var lacks []string
		for _, n := range names {
			if _, err := exec.LookPath(n); err != nil {
				lacks = append(lacks, "no "+n)
			}
		}
		return lacks
	}
}

func labLacks() []string {
	if os.Geteuid() != 0 {
		return []string{"not root"}
	}
	lacks := programs("ip", "ping", "nft", "tcpdump", "storescu", "storescp", "dcmsend", "echoscu", "Orthanc", "mllp_send")()
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		lacks = append(lacks, "no /dev/net/tun")
	}
	if len(lacks) == 0 {
		if out, err := exec.Command("unshare", "-n", "true").CombinedOutput(); err != nil {
			lacks = append(lacks, "no network namespaces: "+strings.TrimSpace(string(out)))
		}
	}
	return lacks
}

// event is one line of go test -json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// result is how one test ended.
type result struct {
	pkg, test, action string
	output            []string
}

func (r *result) reason() string {
	for _, line := range slices.Backward(r.output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			return line
		}
	}
	return "no reason given"
}

// outcome is how a lane ended.
type outcome struct {
	results []*result // leaves only: a test with subtests is counted by them
	broken  []string  // packages that failed without a failing test: they do not build, or died
	took    time.Duration
}

func (o outcome) count(action string) (n int) {
	for _, r := range o.results {
		if r.action == action {
			n++
		}
	}
	if action == "fail" {
		n += len(o.broken)
	}
	return n
}

func run(l lane) (outcome, error) {
	begin := time.Now()
	cmd := exec.Command("go", append([]string{"test", "-json"}, l.args...)...)
	cmd.Stderr = os.Stderr
	// As the program is built, so that the lab's program and the tests share the cache of compiled packages.
	cgo := "CGO_ENABLED=0"
	if slices.Contains(l.args, "-race") {
		cgo = "CGO_ENABLED=1"
	}
	cmd.Env = append(os.Environ(), cgo)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return outcome{}, err
	}
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	tests := map[string]*result{}
	loose := map[string][]string{} // output of a package outside its tests
	var order []string
	var o outcome
	failedIn := map[string]bool{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Println(lines.Text())
			continue
		}
		key := e.Package + "\x00" + e.Test
		switch {
		case e.Action == "build-output":
			fmt.Print(e.Output)
		case e.Test == "" && e.Action == "output":
			loose[e.Package] = append(loose[e.Package], e.Output)
		case e.Test == "":
			finishPackage(&o, e, loose[e.Package], failedIn[e.Package])
		case tests[key] == nil:
			tests[key] = &result{pkg: e.Package, test: e.Test}
			order = append(order, key)
			fallthrough
		default:
			r := tests[key]
			switch e.Action {
			case "output":
				r.output = append(r.output, e.Output)
				if l.talk && !strings.HasPrefix(e.Output, "===") {
					fmt.Print(e.Output)
				}
			case "pass", "skip", "fail":
				r.action = e.Action
			}
			if e.Action == "fail" {
				failedIn[e.Package] = true
				if !l.talk {
					fmt.Print(strings.Join(r.output, ""))
				}
			}
		}
	}
	err = lines.Err()
	if waitErr := cmd.Wait(); err == nil && waitErr != nil && len(failedIn) == 0 && len(o.broken) == 0 {
		err = waitErr
	}
	for _, key := range order {
		parent := slices.ContainsFunc(order, func(k string) bool { return strings.HasPrefix(k, key+"/") })
		r := tests[key]
		// A failing parent whose subtests all passed still is a failure.
		if parent && (r.action != "fail" || slices.ContainsFunc(order, func(k string) bool { return strings.HasPrefix(k, key+"/") && tests[k].action == "fail" })) {
			continue
		}
		o.results = append(o.results, r)
	}
	o.took = time.Since(begin)
	return o, err
}

// finishPackage prints the line of a package that is through.
func finishPackage(o *outcome, e event, loose []string, hasFailure bool) {
	switch e.Action {
	case "fail":
		fmt.Printf("FAIL  %s  %.1fs\n", e.Package, e.Elapsed)
		if !hasFailure {
			fmt.Print(strings.Join(loose, ""))
			o.broken = append(o.broken, e.Package)
		}
	case "pass":
		fmt.Printf("ok    %s  %.1fs\n", e.Package, e.Elapsed)
	}
}

// expected reads .ci/expected-skips: a package and a test name a line, # begins a comment.
func expected() map[string]bool {
	names := map[string]bool{}
	data, err := os.ReadFile(".ci/expected-skips")
	if err != nil {
		return names
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) == 2 {
			names[f[0]+" "+f[1]] = true
		}
	}
	return names
}

func main() {
	only := flag.String("only", "", "run this lane alone; then it must be able to run")
	summary := flag.String("summary", "", "write \"passed failed skipped\" to this file")
	flag.Parse()
	if flag.NArg() > 0 && *only == "" {
		fmt.Fprintln(os.Stderr, "arguments of go test need -only LANE")
		os.Exit(2)
	}
	strict := os.Getenv("CI") == "true" && os.Geteuid() == 0

	done := map[string]outcome{}
	var passed, failed, skipped int
	var complaints, skips []string
	table := &strings.Builder{}
	w := tabwriter.NewWriter(table, 2, 0, 2, ' ', 0)
	fmt.Fprintln(w, "lane\tpassed\tfailed\tskipped\ttime\t")
	for _, l := range lanes {
		if *only != "" && *only != l.name {
			continue
		}
		lacks := l.lacks()
		if flag.NArg() > 0 {
			l.args = flag.Args()
		}
		if len(lacks) == 0 && l.prepare != nil {
			more, err := l.prepare()
			if err != nil {
				lacks = append(lacks, err.Error())
			}
			l.args = append(more, l.args...)
		}
		if len(lacks) > 0 {
			fmt.Fprintf(w, "%s\tCOULD NOT RUN: %s\n", l.name, strings.Join(lacks, ", "))
			if strict || *only != "" {
				complaints = append(complaints, "lane "+l.name+" could not run: "+strings.Join(lacks, ", "))
			}
			continue
		}
		var o outcome
		if l.of != "" {
			for _, r := range done[l.of].results {
				if l.tests.MatchString(r.test) {
					o.results = append(o.results, r)
				}
			}
			if len(o.results) == 0 {
				complaints = append(complaints, "lane "+l.name+" has no test")
			}
		} else {
			fmt.Printf("\n== lane %s: %s\n", l.name, l.what)
			var err error
			if o, err = run(l); err != nil {
				complaints = append(complaints, "lane "+l.name+": "+err.Error())
			}
			passed, failed, skipped = passed+o.count("pass"), failed+o.count("fail"), skipped+o.count("skip")
			for _, r := range o.results {
				switch {
				case r.action == "skip":
					skips = append(skips, fmt.Sprintf("%s: %s %s: %s", l.name, r.pkg, r.test, r.reason()))
					if l.noSkips || strict && !expected()[r.pkg+" "+r.test] {
						complaints = append(complaints, "unexpected skip of "+r.pkg+" "+r.test)
					}
				case r.action == "":
					complaints = append(complaints, r.pkg+" "+r.test+" did not end")
				case r.action == "fail":
					complaints = append(complaints, r.pkg+" "+r.test)
				}
			}
			for _, p := range o.broken {
				complaints = append(complaints, p+" failed outside a test")
			}
		}
		done[l.name] = o
		took := "-"
		if l.of == "" {
			took = o.took.Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\n", l.name, o.count("pass"), o.count("fail"), o.count("skip"), took, l.what)
	}
	w.Flush()
	fmt.Printf("\n%s", table)
	section("skipped", skips)
	section("FAILED", complaints)
	if *summary != "" {
		if failed == 0 && len(complaints) > 0 {
			failed = len(complaints)
		}
		if err := os.WriteFile(*summary, fmt.Appendf(nil, "%d %d %d\n", passed, failed, skipped), 0o600); err != nil {
			complaints = append(complaints, err.Error())
		}
	}
	if len(complaints) > 0 {
		os.Exit(1)
	}
}

func section(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Printf("\n%s:\n", title)
	for _, l := range lines {
		fmt.Println("  " + l)
	}
}
