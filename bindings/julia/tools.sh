#!/bin/sh
# Fetches Julia 1.5 for the tests and the example into build/tools/julia; build/tools/julia/run starts it.
#
# Debian 12 has no Julia. This takes Debian 11's package and those of its dependencies that this machine lacks, from the
# machine's own Debian mirror, checked against Debian's keys, and unpacks them. Nothing is installed; no root is needed.
# Does nothing when build/tools/julia/run works. SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
suite=bullseye
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
build=$(cd "$(dirname "$0")/../.." && pwd)/build/tools
tree=$build/julia

die() { echo "tools.sh: $*" >&2; exit 1; }
works() {
  [ -x "$tree/run" ] && "$tree/run" --startup-file=no -e 'using LinearAlgebra, Pkg, Test; try error() catch end' >"$build/julia.log" 2>&1
}

mkdir -p "$build"
works && exit 0
for tool in apt-get apt-config dpkg-deb; do
  command -v $tool >/dev/null || die "$tool is missing: this wants Debian 12; elsewhere set JULIA to the path of a Julia"
done
[ -f $keyring ] || die "$keyring is missing: install the package debian-archive-keyring"

work=$build/julia.tmp
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/none/partial" "$work/cache/archives/partial" "$work/debs" "$work/tree"

# apt with sources, lists and cache of its own and none of the machine's hooks; its proxies and its list of installed packages
# still hold.
apt-config dump Acquire | grep -v IndexTargets >"$work/apt.conf"
cat >>"$work/apt.conf" <<EOF
Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "$work/none";
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "$work/none";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "$work/none";
Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache";
Acquire::Languages "none";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Debug::NoLocking "1";
EOF
apt() { APT_CONFIG=$work/apt.conf apt-get -q "$@"; }

# The machine's mirrors, in whatever form its sources are written; the first that has Julia under Debian's signature.
# shellcheck source=/dev/null
version=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
[ -n "$version" ] || die "/etc/os-release names no version: this wants Debian 12"
mirrors=$(apt-get update --print-uris -o Dir::State::Lists="$work/none" |
  sed -n "s|^'\(.*\)/dists/$version/InRelease'.*|\1|p" | sort -u)
[ -n "$mirrors" ] || die "apt's sources name no mirror of $version"
found=
for mirror in $mirrors; do
  echo "deb [signed-by=$keyring] $mirror $suite main" >"$work/sources.list"
  if apt update >"$work/log" 2>&1 && apt install --no-install-recommends -s julia >"$work/plan" 2>>"$work/log"; then
    found=$mirror
    break
  fi
  sed 's/^/  /' "$work/log" >&2
done
[ -n "$found" ] || die "Julia of Debian's $suite could not be had from: $(echo "$mirrors" | tr '\n' ' ')"

# "Inst name [old] (version …)" is what the machine lacks. libunwind8 must be of Julia's own age: with a later one the first
# exception ends the process.
packages=$(sed -n 's/^Inst \([^ ]*\) .*(\([^ ]*\) .*/\1=\2/p' "$work/plan")
packages="$packages libunwind8/$suite"
echo "tools.sh: unpacking into build/tools/julia: $(echo "$packages" | tr '\n' ' ')"
# shellcheck disable=SC2086  # a list of package names
(cd "$work/debs" && apt download $packages) >"$work/log" 2>&1 || { cat "$work/log" >&2; die "the download failed"; }
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/tree"; done
rm -rf "$work/tree/usr/share/doc" "$work/tree/usr/share/man"

# Julia opens some libraries by links beside the package's own; those of the machine are elsewhere.
sysimage=$(find "$work/tree/usr/lib" -name sys.so)
[ -n "$sysimage" ] || die "the package holds no sys.so"
private=$(dirname "$sysimage")
triplet=$(basename "$(dirname "$private")")
for link in "$private"/*; do
  [ -e "$link" ] && continue
  name=$(basename "$(readlink "$link")")
  for folder in "/usr/lib/$triplet" "/lib/$triplet"; do
    [ -e "$folder/$name" ] && ln -sf "$folder/$name" "$link" && break
  done
done

cat >"$work/tree/run" <<EOF
#!/bin/sh
# Starts the Julia of this folder. Written by bindings/julia/tools.sh.
here=\$(cd "\$(dirname "\$0")" && pwd)
LD_LIBRARY_PATH=\$here/usr/lib/$triplet/julia:\$here/usr/lib/$triplet:\$here/lib/$triplet\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
JULIA_BINDIR=\$here/usr/bin
export LD_LIBRARY_PATH JULIA_BINDIR
exec "\$here/usr/bin/julia" -J "\$here/usr/lib/$triplet/julia/sys.so" "\$@"
EOF
chmod +x "$work/tree/run"
rm -rf "$tree"
mv "$work/tree" "$tree"
works || { cat "$build/julia.log" >&2; die "the unpacked Julia does not start"; }
