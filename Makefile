# Everything that people and CI run. Each target installs what it needs that is missing (with apt, as root), or says what to install.

BIN     := bin
TOOLS   := .cache/tools
GOLANGCI_VERSION := v2.15.0

.PHONY: build test ceph e2e e2e-vagrant faults lint demo bench packages clean

build: ## the agent, static and stripped
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(BIN)/converge ./cmd/converge

packages: ## Debian packages for tests and demo
	@sh test/packages.sh
	@sh test/ruby/packages.sh

# -count=1: Go's cache of test results does not know of the agent that the tests of ./test build and run.
test: packages build ## all tests, of both modules
	go vet ./...
	go test ./...
	cd test && go vet ./... && go test -count=1 -timeout 40m $$(go list ./... | grep -v -e /e2e -e '/ceph$$')

ceph: ## a bucket at a real Ceph object gateway, with policies and ACLs
	sh test/ceph/packages.sh
	cd test && go test -count=1 -timeout 20m ./ceph $(ARGS)

faults: packages ## an apply killed, and disturbed, at every one of its system calls (root); docs/crash-safety.md
	cd test && go test -v -count=1 -timeout 5h ./faults -all $(ARGS)

e2e: packages ## whole machines in containers (root); make e2e ARGS='-run TestScenarios/live' runs some
	sh test/e2e/packages.sh
	cd test && go test -count=1 -timeout 40m $$(go list ./e2e/... | grep -v '/e2e$$')
	cd test && go test -v -count=1 -timeout 40m ./e2e $(ARGS)

e2e-vagrant: ## the same scenarios, and those that need a kernel or a clock of their own, in virtual machines (root)
	bash test/e2e/vagrant.sh $(ARGS)

lint: $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION) ## gofmt, and golangci-lint on both modules
	@test -z "$$(gofmt -l .)" || { echo "not formatted; run gofmt -w on:"; gofmt -l .; exit 1; }
	$(abspath $<) run ./...
	cd test && $(abspath $<) run ./...

$(TOOLS)/golangci-lint-$(GOLANGCI_VERSION):
	GOBIN=$(abspath $(TOOLS)) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(TOOLS)/golangci-lint $@

demo: packages build ## the whole story, on a host of its own; make demo ARGS=--keep leaves it running
	cd test && go run ./demo --agent ../$(BIN)/converge $(ARGS)

bench: build ## the figures of docs/benchmarks.md
	cd test && go run ./bench

clean:
	rm -rf $(BIN) .cache
