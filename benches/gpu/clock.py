"""Times of several ways to do the same, which take turns; and the tables they go into."""

import statistics
import sys
import time
import traceback
from dataclasses import dataclass

import torch

# Interleaved runs, of which medians are taken.
RUNS = 5
# A run repeats what takes less than this, milliseconds; at most REPEATS times.
LEAST, REPEATS = 2.0, 50
# What takes longer, milliseconds, is measured once, at its first call.
LONG = 3000.0


@dataclass
class Time:
    ms: float
    runs: int
    result: object


class Bench:
    """What a group of benchmarks shares: the device, the time it has, and what went wrong."""

    def __init__(self, device, seconds, small=False):
        self.device, self.small, self.start, self.seconds = device, small, time.monotonic(), seconds
        self.notes, self.failures = [], []
        self.slowest, self.is_dead = 0.0, False

    def note(self, text):
        """Something that the reader of a table must know."""
        if text not in self.notes:
            self.notes.append(text)

    def fail(self, text):
        """Something of mnemo's is wrong."""
        self.failures.append(text)

    def leaves_out(self, table, *cells):
        """Whether there is no next row, because the device has failed or the row would end too late, if it takes as long as the
        slowest so far. Both the table and a note say so."""
        if self.is_dead:
            reason = "the device failed"
        elif time.monotonic() - self.start + self.slowest > self.seconds:
            reason = f"the {self.seconds:g} s of this group were over"
        else:
            return False
        table.missing("not run", *cells)
        self.note(f"Not run, for {reason}: {', '.join(map(str, cells))}.")
        return True

    def free_memory(self):
        """MiB that nobody has on the device, PyTorch's own reserve given back; None where there is no device."""
        if self.device.type != "cuda":
            return None
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0] / 2**20

    def once(self, work, repeats=1):
        """Milliseconds of one call, and its result."""
        if self.device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            begin.record()
            for _ in range(repeats):
                result = work()
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) / repeats, result
        begin = time.perf_counter()
        for _ in range(repeats):
            result = work()
        return 1e3 * (time.perf_counter() - begin) / repeats, result

    def race(self, what, works, seconds):
        """A Time for each of the works, by name, that did not fail; `seconds` are for all their runs."""
        begin, times, results = time.monotonic(), {}, {}
        for name, work in works.items():
            try:
                # The first call compiles and takes memory.
                ms, results[name] = self.once(work)
                times[name] = [self.once(work)[0] if ms < LONG else ms]
            except Exception as error:
                self.report(f"{what}, {name}", error, is_ours=name.startswith("mnemo"))
        spent = dict.fromkeys(times, 0.0)
        for run in range(1 if self.small else RUNS):
            for name in times:
                first = times[name][0]
                if first >= LONG or spent[name] + first > 1e3 * seconds / len(times):
                    continue
                repeats = min(REPEATS, max(1, int(LEAST / max(first, 1e-3))))
                ms, _ = self.once(works[name], repeats)
                spent[name] += ms * repeats
                times[name].append(ms)
        self.slowest = max(self.slowest, time.monotonic() - begin)
        # The call that said how long it takes counts only where there is no other.
        return {n: Time(statistics.median(t[1:] or t), max(1, len(t) - 1), results[n]) for n, t in times.items()}

    def attempt(self, where, make, is_ours):
        """What `make` returns, or None where it fails, which is reported."""
        try:
            return make()
        except Exception as error:
            self.report(where, error, is_ours)
            return None

    def report(self, where, error, is_ours):
        """Notes an exception and goes on."""
        print(f"--- {where}", file=sys.stderr)
        traceback.print_exception(error, file=sys.stderr)
        lines = str(error).strip().splitlines() or [""]
        text = f"{where}: {type(error).__name__}: {lines[0][:200]}"
        if is_ours:
            self.fail(text)
        else:
            self.note(text)
        if self.device.type == "cuda":
            try:
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
            except Exception as second:  # it refuses everything from now on
                print(second, file=sys.stderr)
                self.is_dead = True

    def end(self):
        """Prints the notes. Whether all is well."""
        for text in self.notes:
            print(f"\nNote: {text}")
        for text in self.failures:
            print(f"\n**FAILED**: {text}")
        sys.stdout.flush()
        return not self.failures


class Table:
    """A Markdown table, printed row by row."""

    def __init__(self, *columns):
        self.width = len(columns)
        print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)

    def row(self, *cells):
        assert len(cells) == self.width, cells
        print("| " + " | ".join(number(cell) for cell in cells) + " |", flush=True)

    def missing(self, text, *cells):
        """A row of which only the first cells are known."""
        self.row(*cells, text, *[""] * (self.width - len(cells) - 1))


def number(v):
    """Three digits."""
    if v is None:
        return ""
    if isinstance(v, str):
        return v
    if isinstance(v, Time):
        return number(v.ms) + (f" ({v.runs} run{'s' * (v.runs > 1)})" if v.runs < RUNS else "")
    if isinstance(v, int):
        return str(v)
    if v == 0 or 1e-3 <= abs(v) < 1e5:
        return f"{v:.0f}" if abs(v) >= 100 else f"{v:.3g}"
    return f"{v:.1e}"


def percent(share):
    return None if share is None else f"{number(100 * share)} %"


def ratios(times, accurate):
    """The best accurate peer's time, and the best of all peers', over ours: numbers, or None."""
    if "mnemo" not in times:
        return None, None
    best = lambda names: min((times[n].ms for n in names), default=None)
    peers = [n for n in times if not n.startswith("mnemo")]
    found = best([n for n in peers if accurate[n]]), best(peers)
    return tuple(ms and ms / times["mnemo"].ms for ms in found)
