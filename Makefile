.PHONY: help run test race
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'
test: ## vet and test all packages
	go vet ./...
	go test -count=1 -timeout 10m ./...  # uncached: integration tests build the binary, which go test does not see
race: ## test under the race detector
	go test -count=1 -race -timeout 15m ./...
run: ## start broker, server and demo page in one process
	go run ./cmd/herald dev
