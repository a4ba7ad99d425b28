package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// wanted is the package that always depends on Debian's newest kernel for virtual machines.
const wanted = "linux-image-cloud-amd64"

// product is the program, which is packed for the packages that ask for it.
const product = "towpath"

// prepare makes everything that a VM needs and returns the argument of go test -exec.
func prepare(ctx context.Context) (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("the VM is one of amd64, and this machine is one of %s", runtime.GOARCH)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	cache = filepath.Join(cache, "towpath-vm")
	if strings.ContainsAny(cache, " '\"") {
		return "", fmt.Errorf("the cache directory %q has a character in its name that go test -exec does not take", cache)
	}
	kernel, err := fetch(ctx, cache)
	if err != nil {
		return "", err
	}
	for name, pkg := range map[string]string{"vmtest": "images/vmtest", "vminit": "images/vmtest/vminit", product: "cmd/towpath"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(cache, name),
			"github.com/towpath/towpath/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return fmt.Sprintf("%s -kernel %s -init %s", filepath.Join(cache, "vmtest"), kernel, filepath.Join(cache, "vminit")), nil
}

// fetch returns the folder of the kernel package that apt has, which it downloads and unpacks if need be. Without a network, one that is
// already there will do.
func fetch(ctx context.Context, cache string) (string, error) {
	pkg, version, err := candidate(ctx)
	if err != nil {
		return older(cache, err)
	}
	dir := filepath.Join(cache, pkg+"_"+version)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)
	if err := unpack(ctx, scratch, pkg+"="+version); err != nil {
		return older(cache, err)
	}
	if err := os.Rename(filepath.Join(scratch, "root"), dir); err != nil {
		return "", err
	}
	return dir, nil
}

// older returns the newest kernel in the cache, or err.
func older(cache string, err error) (string, error) {
	have, _ := filepath.Glob(filepath.Join(cache, "linux-image-*"))
	if len(have) == 0 {
		return "", fmt.Errorf("no kernel for the VM: %w", err)
	}
	newest := slices.MaxFunc(have, func(a, b string) int { return modified(a).Compare(modified(b)) })
	fmt.Fprintf(os.Stderr, "vmtest: %v; using %s, which was fetched before\n", err, filepath.Base(newest))
	return newest, nil
}

var depends = regexp.MustCompile(`(?m)^Depends: .*?\b(linux-image-[a-z0-9.+-]+)(?: \(= ([^)]+)\))?`)

// candidate asks apt for the name and version of the newest kernel package.
func candidate(ctx context.Context) (pkg, version string, err error) {
	show := func(name string) (string, error) {
		out, err := exec.CommandContext(ctx, "apt-cache", "show", "--no-all-versions", name).Output()
		if err != nil {
			return "", fmt.Errorf("apt knows no package %s (run apt-get update): %w", name, err)
		}
		return string(out), nil
	}
	text, err := show(wanted)
	if err != nil {
		return "", "", err
	}
	if pkg, version, err = parseDepends(text); err != nil || version != "" {
		return pkg, version, err
	}
	if text, err = show(pkg); err != nil {
		return "", "", err
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, "Version: "); ok {
			return pkg, strings.TrimSpace(v), nil
		}
	}
	return "", "", fmt.Errorf("apt does not say which version of %s there is", pkg)
}

func parseDepends(text string) (pkg, version string, err error) {
	m := depends.FindStringSubmatch(text)
	if m == nil {
		return "", "", fmt.Errorf("%s depends on no kernel package", wanted)
	}
	return m[1], m[2], nil
}

// unpack downloads a package, whose sum apt checks, and unpacks it into scratch/root without installing it.
func unpack(ctx context.Context, scratch, pkg string) error {
	run := func(name string, args ...string) error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = scratch
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
		return nil
	}
	// Root's apt would become another user, who may not write here.
	if err := run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", pkg); err != nil {
		return err
	}
	file, err := one(scratch, "*.deb")
	if err != nil {
		return err
	}
	root := filepath.Join(scratch, "root")
	return errors.Join(
		run("dpkg-deb", "--extract", file, root),
		// Since Debian 13 modules are compressed.
		run("find", root, "-name", "*.ko.xz", "-exec", "xz", "--decompress", "{}", "+"),
	)
}

func modified(file string) time.Time {
	i, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return i.ModTime()
}
