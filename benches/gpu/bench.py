"""mnemo on a CUDA device against PyTorch on it; prints Markdown tables. See README.md.

bench.py --describe                          the device, the versions, and mnemo's context
bench.py package|score|nearest|sampler|graph ...   tables; the exit status is not 0 where mnemo failed or was wrong
bench.py --cpu-selftest [--context cuda]     all of them on tiny data with tensors in the host's memory, without times worth reading;
                                             --context cuda for a machine whose PyTorch has no CUDA, but which has a driver
"""

import argparse
import datetime
import json
import platform
import sys
from importlib.metadata import version

import torch

import floors
from clock import Bench
from graph import graph
from library import Context, lib
from nearest import nearest
from package import package
from sampler import sampler
from score import score

GROUPS = {f.__name__: f for f in (package, score, nearest, sampler, graph)}


def describe(on_cuda, device):
    """Prints what ran. Loads all kernels: what cannot be compiled fails here."""
    context = Context(on_cuda)
    context.warm_up()
    told = context.describe()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"## {datetime.date.today()}, {name}\n")
    print(f"mnemo {lib.mnemo_version().decode()} ({told['instruction_set']}), torch {version('torch')}, "
          f"Python {platform.python_version()}.")
    print(f"\n`mnemo_context_describe`: `{json.dumps(told)}`")
    if told.get("nvrtc") and told["kernels"]["ptx"] > 0:
        print(f"\n**NVRTC {told['nvrtc']} is there, but what it makes is not what runs: {told['kernels']['ptx']} files of kernels are the "
              "library's own PTX.**")
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        print(f"\n{properties.multi_processor_count} multiprocessors, {properties.total_memory / 2**30:.0f} GiB; "
              f"CUDA of PyTorch {torch.version.cuda}.")
        if floors.peak_of(name) is None:
            print(f"\nThe peaks of {name} are unknown: no shares of floors.")


def check_floors():
    """Those of an H100 by hand, milliseconds: products, bytes and products, exponentials; then 0.6 T subtractions and as many fused
    multiply-adds at 16.75 T/s."""
    peak = floors.PEAKS["NVIDIA H100 80GB HBM3"]
    for shape, matrix in (((1024, 50000, 3072, 12288), 0.636), ((256, 60000, 784, 784), 0.0487), ((10000, 1000000, 64, 256), 2.70)):
        found = floors.score(peak, *shape)[1]
        assert abs(found / matrix - 1) < 0.01, (shape, found, matrix)
    found = floors.score(peak, 1024, 50000, 3072, 12288)[0]
    assert abs(found / 37.6 - 1) < 0.01, found


def main():
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", nargs="*", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("--cpu-selftest", action="store_true")
    parser.add_argument("--context", choices=("cpu", "cuda"), help="of mnemo, in a self-test")
    parser.add_argument("--seconds", type=float, default=240, help="of each group; rows that would end later are left out and named")
    options = parser.parse_args()
    unknown = [name for name in options.group if name not in GROUPS]
    if unknown or not (options.group or options.describe or options.cpu_selftest):
        parser.error(f"groups are {', '.join(GROUPS)}")
    if not options.cpu_selftest and not torch.cuda.is_available():
        sys.exit(f"bench.py: PyTorch {version('torch')} finds no CUDA device")
    device = torch.device("cpu" if options.cpu_selftest else "cuda:0")
    on_cuda = options.context == "cuda" if options.cpu_selftest else True
    groups = options.group or (GROUPS if options.cpu_selftest else ())
    peak = next(iter(floors.PEAKS.values())) if options.cpu_selftest else floors.peak_of(torch.cuda.get_device_name())
    well = True
    if options.cpu_selftest:
        check_floors()
    if options.describe or options.cpu_selftest:
        describe(on_cuda, device)
    for name in groups:
        bench = Bench(device, options.seconds, small=options.cpu_selftest)
        with torch.inference_mode():
            try:
                GROUPS[name](bench, on_cuda, peak)
            except Exception as error:
                bench.report(name, error, is_ours=True)
        well &= bench.end()
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
