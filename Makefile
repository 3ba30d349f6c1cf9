# The one task runner: from a bare checkout on Debian, as root, or as a user with sudo.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help check system runtime setup test fast covered lab nat shapes storm changes mending rotation alarms machine roots kernel deb package demo pictures lint bench cables \
	dataplane memory hostile pins docs clean purge

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Relative, as the path of the checkout may have spaces, which make's own lists don't allow.
BIN := .venv/bin
LAB_CACHE ?= /var/cache/cablectl-lab
# The lab's scripts install what they alone need.
RUNTIME := ethtool libreswan iproute2 iputils-ping kmod nftables procps sysvinit-utils util-linux python3 python3-venv
# What the tests read with, besides.
PACKAGES := $(RUNTIME) debootstrap man-db prometheus systemd fish tmux zsh
# Whether the machine has what the target needs: tests/lab/check says what "lab", "demo" and "fast" mean.
NEEDS := fast
test lab nat shapes storm changes mending rotation alarms roots kernel package pictures dataplane cables memory: NEEDS := lab
test lab: PACKAGES += dbus firewalld ufw
test lab rotation: PACKAGES += strace
demo machine: NEEDS := demo
demo machine: PACKAGES := $(RUNTIME)
# Also the slow ones, side by side; and which lines of the program they run, in one table.
WHOLE := -n auto -m 'not lab and not package'
COVERAGE := --cov --cov-report=term:skip-covered

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

check: ## tell in one line what this machine lacks
	@LAB_CACHE='$(LAB_CACHE)' tests/lab/check $(NEEDS)

# firewalld and prometheus are for tests alone: where systemd runs, neither may begin to filter or to listen, now or at
# the next start.
system: check ## install the Debian packages that are missing
	@missing=$$(for each in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' "$$each" 2>/dev/null | grep -q 'ok installed' || echo "$$each"; \
	done); \
	if [ -n "$$missing" ]; then \
		echo "installing:" $$missing; \
		masked=; \
		if [ -d /run/systemd/system ]; then \
			masked=$$(grep -xE 'firewalld|prometheus' <<<"$$missing" || true); \
		fi; \
		[ -z "$$masked" ] || $(SUDO) systemctl --quiet mask --runtime $$masked; \
		$(SUDO) apt-get update -qq; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -o Dpkg::Use-Pty=0 \
			--no-install-recommends $$missing >/dev/null; \
		if [ "$$masked" ]; then \
			$(SUDO) systemctl --quiet unmask --runtime $$masked; \
			$(SUDO) systemctl --quiet disable $$masked; \
		fi; \
	fi

runtime: system ## make the virtual environment .venv, with cablectl alone
	@tools/venv run

setup: system ## make the virtual environment .venv, with cablectl and what develops it
	@tools/venv dev

# The kernel is built beside the fast tests, which use one processor.
test: setup ## pass all tests: the fast ones, then the package's, then those of the lab
	$(MAKE) --no-print-directory --jobs 2 covered roots kernel
	$(MAKE) --no-print-directory package
	tests/lab/run $(BIN)/python

# The target-specific WITH reaches fast, too.
covered: WITH := $(COVERAGE)
covered: fast

fast: setup ## pass the tests that need neither root nor ESP
	$(BIN)/python -m pytest $(WHOLE) $(WITH)

lab: setup roots kernel ## pass the tests on two real gateways
	tests/lab/run $(BIN)/python

nat: setup roots kernel ## pass every overlay through every kind of NAT, and sessions of three minutes
	LAB_ALL=1 tests/lab/boot $(BIN)/python -m pytest -m lab tests/lab/test_nat_overlays.py tests/lab/test_clients.py

shapes: setup roots kernel ## pass the lab's tests of shapes, releases, firewalls and kills, of which others choose some
	LAB_ALL=1 LAB_TIMEOUT=$${LAB_TIMEOUT:-7200} tests/lab/boot $(BIN)/python -m pytest -m lab \
		tests/lab/test_{modes,leaks,failover,mss,releases,firewalls,kill}.py

# More gateways need more memory and time.
COUNT ?= 12
RELEASE ?= 4.10
ROUNDS ?= 3
storm: setup roots kernel ## start COUNT gateways of a RELEASE, or mixed, in ROUNDS; kill, flush and cut them off; WATCH=1 has watches mend
	LAB_MEMORY=$${LAB_MEMORY:-3G} LAB_TIMEOUT=$${LAB_TIMEOUT:-36000} tests/lab/boot $(BIN)/python -m tests.lab.storm \
		$(COUNT) $(RELEASE) $(ROUNDS) $(if $(WATCH),--watch)

changes: setup roots kernel ## apply a changed file at both ends at the same moment, 20 times on each Libreswan
	LAB_ALL=1 LAB_TIMEOUT=$${LAB_TIMEOUT:-7200} tests/lab/boot $(BIN)/python -m pytest -m lab tests/lab/test_change.py

mending: setup roots kernel ## break what a watch keeps, on both gateways and on each Libreswan, alone on this machine
	LAB_ALL=1 tests/lab/boot $(BIN)/python -m pytest -m lab tests/lab/test_watch.py

rotation: setup roots kernel ## rotate the key of every overlay, killed at every step, and try every certificate
	LAB_ALL=1 LAB_TIMEOUT=$${LAB_TIMEOUT:-7200} tests/lab/boot $(BIN)/python -m pytest -m lab tests/lab/test_rotate*.py \
		tests/lab/test_certificate*.py tests/lab/test_removed_authority.py tests/lab/test_secrets.py

alarms: setup kernel ## record the metrics of a real cable anew, for the tests of the alarms; then run make docs
	LAB_RESULTS=$$(mktemp -d) && export LAB_RESULTS && tests/lab/boot $(BIN)/python -m pytest -m lab tests/lab/test_metrics.py && \
		cp "$$LAB_RESULTS"/*.series tests/captures/metrics/ && rm -r "$$LAB_RESULTS"

roots: setup ## make what the lab needs besides this machine: a Debian with another Libreswan, and strongSwan
	@$(SUDO) env LAB_CACHE='$(LAB_CACHE)' tests/lab/root $(BIN)/python

kernel: system ## build what the lab boots where this machine's kernel has no ESP
	@$(SUDO) env LAB_CACHE='$(LAB_CACHE)' tests/lab/kernel

machine: runtime ## fetch what the demo boots where this machine's kernel has no ESP
	@$(SUDO) env LAB_CACHE='$(LAB_CACHE)' tests/lab/machine

# debhelper cleans up all around, and what it makes lies beside its directory: it has a copy.
deb package: PACKAGES += debhelper git python3-pip
deb: system ## build the Debian package, build/cablectl_*.deb
	@rm -rf build/cablectl*
	@mkdir -p build/cablectl
	@git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t build/cablectl
	cd build/cablectl && dpkg-buildpackage --build=binary --no-sign >../cablectl.log 2>&1 || \
		{ tail -40 ../cablectl.log >&2; exit 1; }
	@ls build/cablectl_*.deb

package: setup roots deb ## install the Debian package on a Debian 12 and a Debian 13, and remove it
	$(SUDO) env PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m pytest -p no:cacheprovider -m package

demo: machine ## show the main job on two real gateways, from plan to ping to teardown
	tests/lab/boot $(BIN)/python -m tests.lab.demo

pictures: setup kernel ## draw what the README shows of the program, on two real gateways
	LAB_RESULTS=$$(mktemp -d) && export LAB_RESULTS && tests/lab/boot $(BIN)/python -m tests.lab.pictures && \
		mkdir -p docs/pictures && cp "$$LAB_RESULTS"/*.svg docs/pictures/ && rm -r "$$LAB_RESULTS"

lint: setup ## look for mistakes in style, types, imports and shell
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/shellcheck tests/lab/{boot,cache,check,esp,kernel,machine,root,run} tools/venv .ci/run examples/strongswan/overlay.sh \
		debian/cablectl.{postinst,prerm}

bench: setup ## measure, as ratios in one run
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/plan.py

dataplane: PACKAGES += wireguard-tools
dataplane: setup kernel ## measure what each mode and overlay costs in time and bytes, beside WireGuard
	LAB_RESULTS=$$(mktemp -d) && export LAB_RESULTS && tests/lab/boot $(BIN)/python -m benchmarks.dataplane && \
		mkdir -p docs/pictures && cp "$$LAB_RESULTS"/dataplane.svg docs/pictures/ && rm -r "$$LAB_RESULTS"

cables: setup kernel ## measure connect of 100 cables against its script and ipsec addconn, watch of 100, and status of 500
	tests/lab/boot $(BIN)/python -m benchmarks.connect
	tests/lab/boot $(BIN)/python -m benchmarks.watch
	$(SUDO) env PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m benchmarks.status

memory: setup roots kernel ## measure pluto's memory for connections, and the kernel's for SAs and policies
	$(SUDO) env PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m benchmarks.memory
	tests/lab/boot $(BIN)/python -m benchmarks.memory sas

hostile: setup ## measure what one document of 1 MiB can cost in time and memory
	$(BIN)/python -m benchmarks.hostile

pins: setup ## pin the newest releases that the Debian package may be built from
	$(BIN)/python tools/pins.py

docs: setup ## make man pages, completions, schema, flags, alarm tests, dashboard and golden scripts anew
	$(BIN)/python tools/generate.py

clean: ## remove what the other targets made here
	$(SUDO) rm -rf .lab
	rm -rf build
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@[ ! -d '$(LAB_CACHE)' ] || echo "The lab's kernels and roots are in $(LAB_CACHE), for all checkouts; make purge removes them."

purge: clean ## remove the lab's kernels and roots, too, which all checkouts share
	$(SUDO) rm -rf '$(LAB_CACHE)'/{kernel,machine,trixie}{-*,.lock,.log}
