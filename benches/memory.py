"""Resident memory of each contender, in a process of its own: what it keeps for a data set, and the most that one evaluation
takes beyond it (VmHWM after the first evaluation of the batch, less VmRSS before)."""

import subprocess
import sys

from clock import header, row
from data import DATA

BATCH = 256
SIGMAS = (10, 0.1)


def resident(field):
    """MiB of a field of /proc/self/status."""
    with open("/proc/self/status") as f:
        return int(next(line for line in f if line.startswith(field)).split()[1]) / 1024


def forget_peak():
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")


def child(name, contender, sigma):
    """Prints what `contender` keeps, and what it takes for an evaluation, MiB."""
    from peers import EVERYONE

    make = next(c for c in EVERYONE if c.name == contender)
    data = DATA[name]()
    data.diameter
    x, one = data.noised(BATCH, sigma), data.noised(1, sigma)
    before = resident("VmRSS")
    made = make(data)
    # Threads start, libraries take their buffers, bounds are made.
    made.score(one, sigma)
    kept = resident("VmRSS")
    forget_peak()
    made.score(x, sigma)
    print(kept - before, resident("VmHWM") - kept)


def memory(options):
    from peers import EVERYONE

    names = [contender.name for contender in EVERYONE]
    print(f"\n### Memory, MiB: kept for the data set beside the caller's own rows, and taken at most by a score of B = {BATCH}")
    header("data", "sigma", *(f"{name}: kept" for name in names), *(f"{name}: taken" for name in names))
    for name in options.data[:1] if options.quick else options.data:
        for sigma in SIGMAS:
            asked = [[sys.executable, __file__, name, contender, str(sigma)] for contender in names]
            told = [subprocess.run(a, check=True, capture_output=True, text=True).stdout.split() for a in asked]
            kept, taken = zip(*told)
            row(name, f"{sigma:g}", *(f"{float(v):.0f}" for v in kept + taken))


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], float(sys.argv[3]))
