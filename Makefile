# Signalbox. What each target needs it installs by package name, see scripts/need.
GO ?= go
FUZZTIME ?= 5m
BENCHFLAGS ?=
server := mariadbd=mariadb-server-core mariadb-install-db=mariadb-server-core mariadb=mariadb-client
clients := /usr/lib/python3/dist-packages/pymysql=python3-pymysql /usr/lib/python3/dist-packages/cryptography=python3-cryptography node=nodejs npm=npm

.PHONY: help build demo test test-short lab bench lint fuzz clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## build bin/signalbox
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/signalbox ./cmd/signalbox

demo: ## start a real cluster with the proxy, watch statements being routed, Ctrl-C ends it
	@scripts/need mariadbd=mariadb-server-core mariadb=mariadb-client
	@$(GO) build -o bin/signalbox ./cmd/signalbox
	@PATH="$$PATH:/usr/sbin" bin/signalbox demo

test: ## run all tests; everything that is missing is installed first
	@scripts/need $(server) $(clients)
	$(GO) vet ./...
	$(GO) test -race -timeout 10m ./config/... ./router/... ./drbdwatch/... ./backend/... ./proxy/... ./internal/... ./admin/... ./cmd/...
	SIGNALBOX_E2E=required $(GO) test -timeout 15m ./test/...

test-short: ## the inner loop: no servers
	$(GO) test -short ./...

lab: ## the tests on real DRBD
	SIGNALBOX_LAB=required $(GO) test -v -timeout 20m ./test/lab/...

bench: ## micro-benchmarks, and sysbench directly, through HAProxy and through Signalbox
	@scripts/need $(server) sysbench=sysbench haproxy=haproxy
	$(GO) test -run '^$$' -bench . -benchtime 1s ./router/ ./drbdwatch/ ./internal/wire/ ./test/bench/
	$(GO) run ./test/bench/compare $(BENCHFLAGS)

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
