# Signalbox. What each target needs it installs by package name, see scripts/need.
GO ?= go
FUZZTIME ?= 5m
BENCHFLAGS ?=
server := mariadbd=mariadb-server-core mariadb-install-db=mariadb-server-core mariadb=mariadb-client
lab := linux.uml=user-mode-linux drbdadm=drbd-utils ip=iproute2 chrt=util-linux modprobe=kmod ethtool=ethtool mke2fs=e2fsprogs ipvsadm=ipvsadm keepalived=keepalived
load := sysbench=sysbench haproxy=haproxy
clients := /usr/lib/python3/dist-packages/pymysql=python3-pymysql /usr/lib/python3/dist-packages/cryptography=python3-cryptography node=nodejs npm=npm
checkers := shellcheck=shellcheck xmllint=libxml2-utils

.PHONY: help build demo test test-short staleness lab bench lint fuzz clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## build bin/signalbox
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/signalbox ./cmd/signalbox

demo: ## start a real cluster with the proxy, watch statements being routed, Ctrl-C ends it
	@scripts/need mariadbd=mariadb-server-core mariadb=mariadb-client
	@$(GO) build -o bin/signalbox ./cmd/signalbox
	@PATH="$$PATH:/usr/sbin" bin/signalbox demo

test: ## all tests; everything that is missing is installed first
	@scripts/need $(server) $(clients) $(load) $(checkers)
	@scripts/need $(lab) || test "$(SIGNALBOX_LAB)" != required
	@scripts/unpack bin/managers heartbeat crmsh keepalived
	$(GO) vet ./...
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v /test/)
	SIGNALBOX_E2E=required $(GO) test -count=1 -p 1 -timeout 40m ./test/...

test-short: ## the inner loop: no servers
	$(GO) test -short ./...

lab: ## the tests on real DRBD and real IPVS, in User-Mode-Linux guests
	@scripts/need $(server) $(lab)
	SIGNALBOX_LAB=required $(GO) test -count=1 -p 1 -v -timeout 40m ./test/lab/... ./test/lvs/...

bench: ## micro-benchmarks, and sysbench directly, through HAProxy and through Signalbox
	@scripts/need $(server) $(load)
	$(GO) test -run '^$$' -bench . -benchtime 1s ./router/ ./drbdwatch/ ./internal/wire/ ./test/bench/
	$(GO) run ./test/bench/compare $(BENCHFLAGS)

PAIRS ?= 1000000
staleness: ## PAIRS write-then-read pairs while replicas lag, stop and the primary moves; none may be stale
	@scripts/need $(server)
	SIGNALBOX_E2E=required $(GO) test -count=1 ./test/e2e -run 'TestStaleness$$' -v -timeout 4h -pairs $(PAIRS)

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...
	cd tools && $(GO) build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...

fuzz: ## run every fuzz target for FUZZTIME
	@set -e; for dir in $$($(GO) list -f '{{.Dir}}' ./...); do \
	  for name in $$(grep -ho 'func Fuzz[A-Za-z]*' $$dir/*_test.go 2>/dev/null | cut -c6-); do \
	    echo "== $$name"; (cd $$dir && $(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME)); done; done

clean: ## remove what was built
	rm -rf bin
