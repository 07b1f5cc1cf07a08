.PHONY: help test race
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'
test: ## vet and test all packages
	go vet ./...
	go test -timeout 10m ./...
race: ## test under the race detector
	go test -race -timeout 15m ./...
.PHONY: run
run: ## start broker, server and demo page in one process
	go run ./cmd/herald dev
