package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTranslate(t *testing.T) {
	a := translate(strings.Fields("-test.v=test2json -test.timeout=1m30s -test.coverprofile=/b/cover -test.gocoverdir=/x -test.testlogfile=/y -rapid.checks=7"))
	if want := strings.Fields("-test.v=test2json -test.timeout=1m30s -test.coverprofile=/tmp/cover.out -rapid.checks=7"); !slices.Equal(a.inside, want) {
		t.Errorf("inside: %q, want %q", a.inside, want)
	}
	if a.cover != "/b/cover" || a.limit != 90*time.Second {
		t.Errorf("coverage to %q, limit %v", a.cover, a.limit)
	}
}

func TestParse(t *testing.T) {
	for report, want := range map[string]struct {
		code    int
		profile string
		fails   bool
	}{
		"exit 0\n":               {},
		"exit 1\nmode: set\na":   {code: 1, profile: "mode: set\na"},
		"":                       {fails: true},
		"exit 0":                 {fails: true}, // cut off
		"exit zero\n":            {fails: true},
		"Kernel panic\nexit 0\n": {fails: true},
	} {
		code, profile, err := parse([]byte(report))
		if (err != nil) != want.fails || code != want.code || string(profile) != want.profile {
			t.Errorf("%q: %d, %q, %v", report, code, profile, err)
		}
	}
}

func TestParseDepends(t *testing.T) {
	for text, want := range map[string][2]string{
		"Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n": {"linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"},
		"Depends: initramfs-tools, linux-image-6.12.1+deb13-cloud-amd64\nSize: 1\n":                   {"linux-image-6.12.1+deb13-cloud-amd64", ""},
		"Depends: nothing\n": {},
	} {
		pkg, version, err := parseDepends(text)
		if pkg != want[0] || version != want[1] || (err != nil) != (want[0] == "") {
			t.Errorf("%q: %s %s (%v)", text, pkg, version, err)
		}
	}
}

func TestLibraries(t *testing.T) {
	got := libraries("\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tgone.so => not found\n")
	if want := []string{"/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestEnvironment(t *testing.T) {
	if got := environment([]string{"CI=true", "HOME=/root", "SECRET=x", "GORACE=halt_on_error=1"}); !slices.Equal(got, []string{"CI=true", "GORACE=halt_on_error=1"}) {
		t.Errorf("%q", got)
	}
}
