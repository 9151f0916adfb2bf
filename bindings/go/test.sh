#!/bin/sh
# Tests the Go binding against an installed library: test.sh PREFIX
# GO=… names another go command than the one that toolchain.sh fetches.
# SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
[ $# = 1 ] || { echo "usage: $0 PREFIX" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
PREFIX=$(cd "$1" && pwd)
# shellcheck source=toolchain.sh
. "$here/toolchain.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed() { echo "go: $*" >&2; exit 1; }

cd "$here"
unformatted=$(gofmt -l . "$root/examples/go")
[ -z "$unformatted" ] || failed "gofmt would change $unformatted"
go vet ./... || failed "go vet"
passed=$((passed + 2))

# With the race detector the strictest pointer checks that this Go has; then as programs run.
strict=GOEXPERIMENT=cgocheck2
env $strict go env >/dev/null 2>&1 || strict=GODEBUG=cgocheck=2 # before Go 1.21
tests() {
	setting=$1
	shift
	env "$setting" go test -count=1 -v "$@" ./... >"$work/log" 2>&1 ||
		{ grep -v '^===' "$work/log" >&2; failed "tests fail under $setting $*"; }
	if grep -e '--- SKIP' "$work/log"; then failed "tests are skipped"; fi
	passed=$((passed + $(grep -c '^--- PASS' "$work/log")))
}
tests $strict -race
tests GODEBUG=cgocheck=1

# The README: its commands with each of its programs, which must print what the README shows.
awk -v to="$work/readme-" '
	/^```/ && kind == "" { kind = substr($0, 4); n[kind]++; file = to n[kind] "." kind; next }
	/^```/ { kind = ""; next }
	kind != "" { print > file }' README.md
programs=0
for program in "$work"/readme-*.go; do
	programs=$((programs + 1))
	name="README.md, program $programs" folder=$work/program-$programs
	mkdir "$folder"
	cp "$program" "$folder/main.go"
	cp "$root/examples/data/digits.npy" "$folder/"
	[ -z "$(gofmt -l "$folder")" ] || failed "$name: gofmt would change it"
	(cd "$folder" && MNEMO=$root PREFIX=$PREFIX sh -eu "$work/readme-1.sh") >"$folder/printed" 2>"$folder/err" ||
		{ cat "$folder/err" >&2; failed "$name: fails"; }
	(cd "$folder" && go vet .) || failed "$name: go vet"
	diff "$folder/printed" "$work/readme-$programs.text" >&2 || failed "$name: does not print what is shown"
	passed=$((passed + 1))
done
blocks=$(find "$work" -name 'readme-*' | wc -l)
[ "$blocks" = $((2 * programs + 1)) ] || failed "README.md: a block is neither commands, nor a program, nor its output"

# The example, linked with the shared and with the static library.
(cd "$root/examples/go" && go vet . && go build -tags mnemo_static -o "$work/static" .) ||
	failed "examples/go does not build"
if ldd "$work/static" | grep libmnemo; then failed "the static program needs libmnemo.so"; fi
"$work/static" "$root/examples/data/digits.npy" >"$work/static.txt" || failed "the static example fails"
"$root/examples/go/run.sh" "$PREFIX" >"$work/shared.txt" || failed "examples/go/run.sh fails"
for link in static shared; do
	diff "$work/$link.txt" "$root/examples/copies.txt" >&2 || failed "the $link example does not print examples/copies.txt"
	passed=$((passed + 1))
done
echo "go: $passed passed, 0 failed"
