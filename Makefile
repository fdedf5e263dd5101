# make demo and make test are the two commands that a newcomer needs; both install what is missing.

FUZZTIME ?= 20000x
PACKAGES ?= ./...
VERSION ?= $(shell scripts/version)
BIN ?= bin

.PHONY: build install package dev demo test unit race integration lint fuzz bench proto docs clean

build: ## bin/sealsign and bin/sealsignd, as they are shipped: static, without the TPM simulator, the same bytes from any folder
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X github.com/sealsign/sealsign/internal/build.version=$(VERSION)' \
		-o $(BIN)/ ./cmd/sealsign ./cmd/sealsignd

install: ## what make build has made, the units and their settings, into DESTDIR
	install -D -t $(DESTDIR)/usr/bin $(BIN)/sealsign $(BIN)/sealsignd
	install -D -m 0644 -t $(DESTDIR)/usr/lib/systemd/system systemd/*.service systemd/*.socket
	install -D -m 0644 systemd/sealsign.sysusers $(DESTDIR)/usr/lib/sysusers.d/sealsign.conf
	install -D -m 0644 systemd/sealsign.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/sealsign.conf
	install -D -m 0644 systemd/sealsign.preset $(DESTDIR)/usr/lib/systemd/system-preset/50-sealsign.preset
	install -D -m 0644 -t $(DESTDIR)/usr/lib/systemd/catalog systemd/sealsign.catalog
	install -D -m 0644 -t $(DESTDIR)/usr/share/doc/sealsign/examples systemd/examples/*.conf
	install -D -m 0644 -t $(DESTDIR)/usr/share/doc/sealsign/monitoring systemd/monitoring/dashboard.json systemd/monitoring/rules.yml

package: build ## .deb and .rpm, for amd64 and arm64, in dist/
	@scripts/install-deps package
	@scripts/package $(VERSION)

dev: build ## and bin/sealsignd-dev: with the TPM simulator
	@scripts/install-deps dev
	CGO_ENABLED=1 go build -tags simulator -o bin/sealsignd-dev ./cmd/sealsignd

demo: ## one request's way, shown on a software TPM and mock exchanges
	@scripts/install-deps demo
	@demo/run

test: ## everything that CI runs
	@scripts/install-deps test
	@scripts/test

unit: ## the ordinary tests: make unit PACKAGES=./agent/...
	go test $(PACKAGES)

race:
	go test -race $(PACKAGES)

integration: build ## tests that start the built programs
	go test -tags integration ./test/...

lint:
	@scripts/install-deps lint
	bin/tools/golangci-lint run

fuzz: ## each fuzz target for FUZZTIME: a number of inputs, or a duration
	@scripts/fuzz $(FUZZTIME)

bench: ## what it reaches, each figure beside its baseline (as root: it connects as several users)
	go test -run '^$$' -benchmem -bench '^Benchmark(Release|Forward|Resident|BareTPM|Decide|Append|FsyncPerRecord|Render|Memory|Start|Reload)' \
		./bench ./agent/server ./tpm ./agent/policy ./agent/audit ./agent/venue

proto: ## the generated code in proto/ (needs protoc, protoc-gen-go and protoc-gen-go-grpc)
	protoc -I proto --go_out=proto --go_opt=paths=source_relative \
		--go-grpc_out=proto --go-grpc_opt=paths=source_relative proto/sealsign/v1/*.proto

docs: build ## man pages in dist/man
	bin/sealsign man dist/man

clean:
	rm -rf bin dist
