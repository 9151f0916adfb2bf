"""Prints tables of mnemo against the programs that it could be replaced by; see run.sh."""

import argparse
import datetime
import os
import time
from importlib.metadata import version

import numpy as np
import torch

import mnemo
from clock import count_cpu
from data import DATA
from memory import memory
from nearest import nearest
from sampler import sampler
from score import BATCHES, SIGMAS, bisector, score
from toy import toy

GROUPS = {f.__name__: f for f in (score, bisector, nearest, toy, sampler, memory)}
PACKAGES = ("numpy", "torch", "faiss-cpu", "scipy", "torchdiffeq")


def machine():
    """The processor, and what of it matters here."""
    with open("/proc/cpuinfo") as f:
        cpu = dict(map(str.strip, line.split(":", 1)) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) / 2**20
    isa = [flag for flag in ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile") if flag in cpu["flags"].split()]
    return (f"{cpu['vendor_id']} {cpu['model name']} (family {cpu['cpu family']}, model {cpu['model']}, "
            f"stepping {cpu['stepping']}), {', '.join(isa)}; {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB")


def blas():
    config = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"numpy with {config['name']} {config['version']}, torch with {'MKL' if torch.backends.mkl.is_available() else 'another BLAS'}"


def numbers(kind):
    return lambda text: [kind(v) for v in text.split(",")]


def main():
    parser = argparse.ArgumentParser(prog="benches/run.sh", description="mnemo against its peers; prints Markdown tables.")
    parser.add_argument("group", nargs="*", help=f"of {', '.join(GROUPS)}; all if none is given")
    parser.add_argument("--data", type=numbers(str), default=list(DATA), help="of fashion,synthetic")
    parser.add_argument("--batch", type=numbers(int), default=BATCHES, help="queries of a score, such as 1,16")
    parser.add_argument("--sigma", type=numbers(float), default=SIGMAS, help="noise levels of a score, such as 10,.5")
    parser.add_argument("--runs", type=int, default=5, help="of which medians are taken")
    parser.add_argument("--quick", action="store_true", help="the scores of B = 16 and 256 at sigma = 10, 1, .3 and .05, the memory of one data set")
    parser.add_argument("--cpu", action="store_true", help="CPU time summed over threads, for a machine that has other work")
    options = parser.parse_args()
    unknown = [v for v in options.group if v not in GROUPS] + [v for v in options.data if v not in DATA]
    if unknown:
        parser.error(f"no {', '.join(unknown)}: groups are {', '.join(GROUPS)}; data are {', '.join(DATA)}")
    if options.quick:
        options.batch, options.sigma = (16, 256), (10, 1, 0.3, 0.05)
    if options.cpu:
        count_cpu()
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    with mnemo.default_context() as context:
        described = context.describe()
    print(f"## {datetime.date.today()}, {machine()}\n")
    print(f"mnemo {mnemo.__version__} ({described['instruction_set']}, {described['threads']} threads), "
          + ", ".join(f"{name} {version(name)}" for name in PACKAGES) + f"; {blas()}, {torch.get_num_threads()} threads.")
    print(f"{'CPU times, summed over threads: medians' if options.cpu else 'Medians'} of {options.runs} interleaved runs. Load at the start: {os.getloadavg()[0]:.1f}"
          + (" (other work was running: provisional)." if os.getloadavg()[0] > 0.5 else "."), flush=True)
    start = time.monotonic()
    for name in options.group or GROUPS:
        GROUPS[name](options)
    print(f"\nTook {(time.monotonic() - start) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
