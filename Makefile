# mnemo: `make demo` shows what it does, `make test` runs everything CI runs, `make install PREFIX=…` installs it.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
MAJOR   := $(shell sed -n 's/^pub const MNEMO_ABI_MAJOR: u32 = \(.*\);/\1/p' src/capi/status.rs)
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
DESTDIR ?=
# One that has JAX, to build its plugin too.
PYTHON  =
DATA    ?= examples/data/digits.npy
CC      ?= cc
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR
BUILT   := $(CARGO_TARGET_DIR)/release
TRIPLE   = $(shell rustc -vV | sed -n 's/^host: //p')
ASAN    := $(CARGO_TARGET_DIR)/asan
WARN    := -Wall -Wextra -Werror -pedantic

# A prefix of our own, from which bindings and examples are tested as they are used.
HERE    := $(abspath build/prefix)

INSTALLER := PREFIX='$(PREFIX)' LIBDIR='$(LIBDIR)' DESTDIR='$(DESTDIR)' PYTHON='$(PYTHON)' BUILT='$(BUILT)' \
	VERSION=$(VERSION) MAJOR=$(MAJOR) packaging/install.sh

.PHONY: build demo reproduce test test-plugins examples prefix sanitized abi bench gpu-pack install uninstall dist tools clean

build:
	cargo build --release
	ln -sf libmnemo.so $(BUILT)/libmnemo.so.$(MAJOR)

# Samples from exact and regularized scores of a real image set, and how much of the result is copied. DATA: any .npy or IDX.
demo: build
	mkdir -p build
	$(CC) -std=c99 $(WARN) -O2 -Iinclude examples/c/audit.c -o build/audit -L$(BUILT) -lmnemo -lm -Wl,-rpath,$(abspath $(BUILT))
	build/audit $(AUDIT) -o build/audit.png $(DATA)

# Figures 1-7 of reg, as CSV and SVG.
reproduce:
	cargo run --release --example reproduce -- build/figures

# Everything CI runs. A tool that is missing is installed, or the run fails.
test: tools
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items
	cargo build --release
	cargo test --release
	tests/c/run.sh $(BUILT) include
	tests/c/run.sh $(BUILT) include --valgrind
	$(MAKE) sanitized
	tests/c/run.sh $(ASAN)/$(TRIPLE)/release include --sanitize
	tests/cuda/run.sh
	tests/fuzz/run.sh
	$(MAKE) prefix
	tests/cpp/run.sh $(HERE)
	bindings/go/test.sh $(HERE)
	bindings/julia/test.sh $(HERE)
	bindings/python/test.sh $(HERE)
	bindings/test-plugins-page.sh $(HERE)
	examples/run.sh $(HERE)
	tests/packaging/run.sh
	$(MAKE) demo AUDIT="-n 16"

# The PyTorch and JAX plugins; fetches both frameworks.
test-plugins: prefix
	bindings/python/test-plugins.sh $(HERE)

# The same audit in C, C++, Go, Julia and Python, from an installed prefix; all must print the same.
examples: prefix
	examples/run.sh $(HERE)

prefix: build
	rm -rf build/prefix
	$(MAKE) install PREFIX=$(HERE) LIBDIR=$(HERE)/lib DESTDIR=

# The library with the address sanitizer in it, which a stable compiler has but does not offer.
sanitized:
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo build --release --lib --target $(TRIPLE) --target-dir $(ASAN)

tools:
	tests/tools.sh
	tests/cuda/nvrtc.sh

# Accepts a change of the ABI: writes the header, the symbol list and the struct layouts anew.
abi: build
	MNEMO_ACCEPT_ABI=1 cargo test --release --test abi
	git --no-pager diff --stat -- include tests/abi
	cargo test --release --test abi

# Against numpy, PyTorch, FAISS, scipy and torchdiffeq, which are fetched; not part of CI. BENCH="--quick" for a quarter of it.
bench: build
	benches/run.sh $(BENCH)

# What tests and times the library on another machine, which has a GPU and no Rust: benches/gpu/README.md.
gpu-pack:
	benches/gpu/pack.sh build/gpu

# Relocatable: the prefix may be moved. Without cargo, as under sudo, what `make` built is installed.
install:
	@if command -v cargo >/dev/null || [ ! -f $(BUILT)/libmnemo.so ]; then $(MAKE) --no-print-directory build; fi
	$(INSTALLER) install

uninstall:
	$(INSTALLER) uninstall

# What is given away, into build/dist: a tarball of a prefix, a Python wheel, a tarball of the committed sources.
dist:
	VERSION=$(VERSION) MAJOR=$(MAJOR) packaging/dist.sh build/dist

clean:
	cargo clean
	rm -rf build
