# Plain "make" prints what there is. Nothing here needs root except lab; test uses root if it has it; vm is root in a machine of its own.

GO      ?= go
T       ?= 30s
PKG     ?= ./...
LINT    := $(GO) tool -modfile=tools.mod golangci-lint

# The version is the tag if there is one; without git, or without a repository, the build is "dev" and has no date.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
DATE    := $(shell git log -1 --format=%cI 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) $(if $(DATE),-X main.commitDate=$(DATE))

.DEFAULT_GOAL := help
.PHONY: help demo build test check race lint fmt fuzz bench lab vm crash

help: ## what you can ask for
	@echo "Towpath: make TARGET"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  make demo ONCE=1               end after the proof, exit code 0 or 1"
	@echo "  make demo PACS=host:port/AE    deliver to a real PACS instead of the embedded archive"
	@echo "  make fuzz T=30s                time for each fuzz target"
	@echo "  make crash RUNS=1000 SEED=1    so many runs from this seed on; TIME=10m for a time instead; a failing seed says how to repeat it"
	@echo "  make crash TIER=programs       whole programs only; TIER=boxes for the other part of it"
	@echo "  make vm ARGS='-race ./x'       any package's tests in the virtual machine, with any flags of go test"

demo: build ## a coordinator, a center and two clinics on this machine, a study sent through, the proof
	bin/towpath demo $(if $(ONCE),--once) $(if $(PACS),--pacs $(PACS))

build: ## bin/towpath: one static program, the same bytes wherever it is built
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/towpath ./cmd/towpath

test: ## all lanes this machine allows (as root: installs what they need), and which could not run
	@.ci/install
	@$(GO) run .ci/lanes.go $(if $(SUMMARY),-summary $(SUMMARY))

check: ## before every commit, offline: format, vet, layers, unit tests
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go' 2>/dev/null || find . -name '*.go')); \
	if [ -n "$$bad" ]; then echo "not formatted (make fmt):"; echo "$$bad"; exit 1; fi
	GOPROXY=off $(GO) vet ./...
	GOPROXY=off $(GO) vet -tags lab ./...
	GOPROXY=off CGO_ENABLED=0 $(GO) test ./cmd/towpath -run 'Layers|EveryPackage|Bans|NoInit|PackageComments|FileLength|TODO|GoMod|NoSleep'
	GOPROXY=off CGO_ENABLED=0 $(GO) test ./...

# SQLite itself, translated from C, is left out of the detector: it has one caller at a time, and is ten times slower with it.
race: ## unit tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -gcflags=modernc.org/sqlite/lib=-race=false $(ARGS) $(PKG)

lint: ## golangci-lint as pinned in tools.mod (the first run builds it)
	$(LINT) run

fmt: ## format everything
	$(LINT) fmt

crash: ## the crash campaign: kills, power cuts, failing disks, lines and archives (Linux; docs/reliability.md)
	$(if $(filter programs,$(TIER)),,$(GO) test -count 1 -timeout 0 -v -run '^TestCrash$$' ./gateway/crashtest -args $(CRASH) $(if $(RUNS)$(TIME),,-crash.runs 1000))
	$(if $(filter boxes,$(TIER)),,$(GO) test -count 1 -timeout 0 -v -run '^TestCrashPrograms$$' ./gateway/crashtest -args $(CRASH) $(if $(RUNS)$(TIME),,-crash.runs 50))

CRASH = $(if $(RUNS),-crash.runs $(RUNS)) $(if $(SEED),-crash.seed $(SEED)) $(if $(TIME),-crash.time $(TIME))

fuzz: ## every fuzz target in turn for T
	@.ci/fuzz $(T)

bench: ## benchmarks
	$(GO) test -run '^$$' -bench . -benchmem $(PKG)

lab: ## the namespaces lab alone (root)
	@.ci/install
	@$(GO) run .ci/lanes.go -only lab

vm: ## the tests that need Debian's kernel, in a virtual machine (QEMU; no root)
	@.ci/install
	@$(GO) run .ci/lanes.go -only vm $(ARGS)
