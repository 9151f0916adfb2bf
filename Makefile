# mnemo: `make demo` shows what it does, `make test` runs everything CI runs, `make install PREFIX=…` installs it.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
MAJOR   := $(shell sed -n 's/^pub const MNEMO_ABI_MAJOR: u32 = \(.*\);/\1/p' src/capi/status.rs)
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
DESTDIR ?=
DATA    ?= examples/data/digits.npy
CC      ?= cc
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR
BUILT   := $(CARGO_TARGET_DIR)/release
WARN    := -Wall -Wextra -Werror -pedantic

.PHONY: build demo reproduce test abi bench install tools clean

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
	tests/packaging/run.sh
	$(MAKE) demo AUDIT="-n 16"

tools:
	tests/tools.sh

# Accepts a change of the ABI: writes the header, the symbol list and the struct layouts anew.
abi: build
	MNEMO_ACCEPT_ABI=1 cargo test --release --test abi
	cargo test --release --test abi
	git --no-pager diff --stat -- include tests/abi

# Against numpy on Fashion-MNIST, in one process; not part of CI.
bench: build
	benches/run.sh

install: build
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 755 $(BUILT)/libmnemo.so $(DESTDIR)$(LIBDIR)/libmnemo.so.$(VERSION)
	ln -sf libmnemo.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libmnemo.so.$(MAJOR)
	ln -sf libmnemo.so.$(MAJOR) $(DESTDIR)$(LIBDIR)/libmnemo.so
	install -m 644 $(BUILT)/libmnemo.a $(DESTDIR)$(LIBDIR)/libmnemo.a
	install -m 644 include/mnemo.h $(DESTDIR)$(PREFIX)/include/mnemo.h
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' packaging/mnemo.pc.in \
		> $(DESTDIR)$(LIBDIR)/pkgconfig/mnemo.pc

clean:
	cargo clean
	rm -rf build
