"""Takes the code blocks of a page apart for run.sh: readme.py PAGE FOLDER

Writes program_N.cpp for each C++ block that has a main, with program_N.txt where a block of its output follows; the other
C++ blocks, each in a function with the objects of the page's example, to fragments_17.cpp and (```cpp c++20)
fragments_20.cpp; the sh and cmake blocks to build.sh and CMakeLists.txt. Prints the number of blocks.
SPDX-License-Identifier: MIT OR Apache-2.0
"""

import pathlib
import re
import sys

INCLUDES = """#include <Eigen/Core>
#include <cstdio>
#include <mnemo.hpp>
#include <mnemo_dlpack.h>
#include <stdexcept>
#include <thread>
#include <vector>
"""
FRAGMENT = """
static void fragment_{number}(const char *path) {{
  mnemo::Context context;
  mnemo::Dataset images = context.open(path, {{1 / 8.0, -1}});
  mnemo::Process edm = mnemo::Process::ve_power(2, 1, 80);
  mnemo::Score score = mnemo::Score::empirical(images, edm);
  std::vector<float> x(100 * 64);
  mnemo::SamplerOptions options;
  options.from_prior = true;
  {{
{body}
  }}
}}
"""

page, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
blocks = re.findall(r"^```(\w[^\n]*)\n(.*?)^```$", page.read_text(), re.M | re.S)
fragments = {"17": [], "20": []}
program = None
for number, (info, body) in enumerate(blocks):
    match info:
        case "cpp" if "int main" in body:
            program = folder / f"program_{number}"
            program.with_suffix(".cpp").write_text(body)
        case "text" if program:
            program.with_suffix(".txt").write_text(body)
        case "cpp":
            fragments["17"].append((number, body))
        case "cpp c++20":
            fragments["20"].append((number, body))
        case "sh":
            (folder / "build.sh").write_text(body)
        case "cmake":
            (folder / "CMakeLists.txt").write_text(body)
        case _:
            sys.exit(f"{page}: a block of {info}, which nothing runs")
for standard, parts in fragments.items():
    calls = "".join(f"  fragment_{number}(argv[1]);\n" for number, _ in parts)
    (folder / f"fragments_{standard}.cpp").write_text(
        INCLUDES
        + "".join(FRAGMENT.format(number=number, body=body) for number, body in parts)
        + f"\nint main(int, char **argv) {{\n{calls}}}\n"
    )
print(len(blocks))
