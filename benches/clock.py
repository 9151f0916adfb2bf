"""Times of several ways to do the same, and tables of them."""

import statistics
import time

# Of the wall; or of the process's CPU, summed over threads, which other work on the machine changes less.
clock = time.perf_counter

# A thread pool's threads may go on spinning for a while; the next one to be timed should not pay for it.
PAUSE = 0.03


def once(work):
    """Milliseconds of one run, and its result."""
    time.sleep(PAUSE)
    start = clock()
    result = work()
    return 1e3 * (clock() - start), result


def count_cpu():
    """Counts CPU time from now on."""
    global clock
    clock = time.process_time


def interleaved(works, runs):
    """Median milliseconds of each of the works, which take turns; each runs once before to warm up."""
    for work in works.values():
        work()
    times = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            times[name].append(once(work)[0])
    return {name: statistics.median(t) for name, t in times.items()}


def header(*columns):
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)


def row(*cells):
    print("| " + " | ".join(cell if isinstance(cell, str) else number(cell) for cell in cells) + " |", flush=True)


def number(v):
    """Three digits."""
    if v is None:
        return ""
    if isinstance(v, int):
        return str(v)
    if v == 0 or 1e-3 <= abs(v) < 1e5:
        return f"{v:.0f}" if abs(v) >= 100 else f"{v:.3g}"
    return f"{v:.1e}"
