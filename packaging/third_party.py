# SPDX-License-Identifier: MIT OR Apache-2.0
"""Prints the licences of the crates that are linked into the library.

    third_party.py TARGET
"""

import json
import pathlib
import subprocess
import sys


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments, "--locked"], check=True, stdout=subprocess.PIPE, text=True).stdout


target = sys.argv[1]
linked = cargo("tree", "--target", target, "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}")
linked = {tuple(line.split()[:2]) for line in linked.splitlines() if line.strip()}

for package in sorted(json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", target))["packages"], key=lambda p: p["id"]):
    name, version = package["name"], package["version"]
    if (name, "v" + version) not in linked or package["source"] is None:
        continue
    folder = pathlib.Path(package["manifest_path"]).parent
    # Every crate but two has a choice of licences: of these the one that holds the copyright notice.
    files = sorted(folder.glob("LICENSE-MIT*")) or sorted(folder.glob("LICENSE*"))
    if not files:
        sys.exit(f"{name} {version} has no licence file")
    print(f"{'=' * 100}\n{name} {version}: {package['license']}\n{'=' * 100}\n")
    for file in files:
        print(file.read_text().strip() + "\n")
