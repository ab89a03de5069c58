# The tasks of the project. `make demo` and `make test` install what they need (scripts/packages.txt) and are
# quick when nothing is missing.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build release demo demo-clean test test-kvm lint fmt doc deny fuzz bench bench-boxes bench-vmm

POSADA_DEBUG   := $(CURDIR)/target/debug/posada
POSADA_RELEASE := $(CURDIR)/target/release/posada

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the Debian packages that building, running and testing ask for
	@scripts/packages.sh build run test rig

build: ## build the debug binary, target/debug/posada
	@scripts/packages.sh build
	@cargo build --locked --package posada

release: ## build the release binary, target/release/posada
	@scripts/packages.sh build
	@cargo build --locked --package posada --release

demo: ## bring up examples/web and show its page
	@scripts/packages.sh build run
	@cargo build --locked --package posada --release
	@POSADA=$(POSADA_RELEASE) examples/web/demo.sh

demo-clean: ## destroy the demo's machine; boxes stay
	@cd examples/web && $(POSADA_RELEASE) destroy --force

test: ## run every test: unit tests first, then real machines (needs root or sudo)
	@scripts/packages.sh build run test rig
	@scripts/cargo-tools.sh nextest s3s-fs
	@scripts/test.sh
	@scripts/test-kvm.sh --rest

test-kvm: ## run the tests that need a KVM, in an emulated machine where there is none (needs root or sudo)
	@scripts/packages.sh build run test rig
	@scripts/test-kvm.sh

lint: ## rustfmt and clippy, as CI runs them
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings

fmt: ## format the Rust code
	@cargo fmt --all

doc: ## the code's documentation; warnings are errors
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

deny: ## licences, sources, bans and advisories of what is depended on
	@scripts/cargo-tools.sh deny
	@scripts/deny.sh

fuzz: ## fuzz every parser, a minute each; scripts/fuzz.sh SECONDS TARGET... for more (fuzz/README.md)
	@scripts/packages.sh build test fuzz
	@scripts/fuzz.sh

bench: ## measure posada beside lxc, systemd-nspawn and vagrant-lxc (root; tests/benches/RESULTS.md)
	@scripts/packages.sh build run bench
	@cargo build --locked --package posada --release
	@POSADA=$(POSADA_RELEASE) tests/benches/start.sh

bench-boxes: ## measure `box add` beside curl and Vagrant, `box import` beside qemu-img, and how soon a machine has its disk (root; tests/benches/BOXES-RESULTS.md)
	@scripts/packages.sh build run test bench
	@cargo build --locked --workspace --release --bin posada --example overlay
	@POSADA=$(POSADA_RELEASE) OVERLAY=$(dir $(POSADA_RELEASE))examples/overlay tests/benches/box-add.sh
	@POSADA=$(POSADA_RELEASE) tests/benches/box-import.sh

bench-vmm: ## measure the monitor beside QEMU's microvm and q35 (root; tests/benches/VMM-RESULTS.md)
	@scripts/packages.sh build rig bench
	@cargo build --locked --package posada-vmm --release --example boot
	@tests/benches/vmm.sh
