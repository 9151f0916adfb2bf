"""The k nearest rows."""

import torch

import data as sets
import floors
import peers
from clock import Table, percent, ratios
from library import Context, Dataset

CASES = (("images", 256), ("synthetic", 1024), ("latents", 1024))
NEAREST = (50, 1)
SIGMA = 0.3
CHECKED = 32
# For the runs of one row, seconds.
ROW = 5


def nearest(bench, on_cuda, peak):
    print(f"\n### Nearest rows\n\nMilliseconds; queries are rows with noise of {SIGMA:g}, float32. Peers: a product (cdist: distances) and "
          "topk.")
    times = Table("data", "B", "N", "d", "k", "mnemo", *peers.PRODUCTS, "best accurate peer / mnemo", "best peer / mnemo",
                  "share of float64 floor", "share of bf16 floor")
    errors = []
    for name, batch in CASES:
        data = getattr(sets, name)(bench.device, bench.small)
        batch = min(batch, 24) if bench.small else batch
        shape = (f"{data.name} {data.dtype}", batch, data.n, data.d)
        if data.about:
            bench.note(f"{data.name}, N = {data.n}: {data.about}.")
        rows = bench.attempt(f"nearest, {shape}, mnemo", lambda: Dataset(Context(on_cuda), data.raw, data.scale, data.shift), True)
        others = bench.attempt(f"nearest, {shape}, peers", lambda: peers.products(data), False) or []
        x = data.noised(batch, SIGMA)
        for k in NEAREST:
            if bench.leaves_out(times, *shape, k):
                continue
            what = f"nearest, {shape}, k = {k}"
            ours = rows and bench.attempt(f"{what}, mnemo", lambda: rows.search(x, k), True)
            works = {"mnemo": ours} if ours else {}
            works |= {other.name: lambda other=other: other.nearest(x, k) for other in others}
            found = bench.race(what, works, 1 if bench.small else ROW)
            told = bench.attempt(f"{what}, errors", lambda: judge(bench, data, what, x, k, found), True)
            if told is None:
                times.missing("failed", *shape, k)
                continue
            ms = found["mnemo"].ms if "mnemo" in found else None
            floor = floors.shares(floors.nearest(peak, batch, data.n, data.d, data.row_bytes), ms)
            accurate = {name: told[name][0] == 1 for name in found}
            names = ("mnemo", *peers.PRODUCTS)
            times.row(*shape, k, *(found.get(n) for n in names), *ratios(found, accurate), *map(percent, floor))
            errors.append((*shape, k, *(told.get(n) and "{:.4f}, {:.0e}".format(*told[n]) for n in names)))
    print(f"\nOf the rows found for {CHECKED} queries, the share that is as near as the k nearest are, and the largest relative error of "
          "the k distances. A peer is accurate where the share is 1.")
    table = Table("data", "B", "N", "d", "k", "mnemo", *peers.PRODUCTS)
    for row in errors:
        table.row(*row)


def judge(bench, data, what, x, k, found):
    """(share of right rows, largest relative error of a distance) of those who ran."""
    few = x[:CHECKED].double()
    reference = peers.squares(data, few).topk(k, largest=False).values.sqrt()
    told = {}
    for name, time in found.items():
        distance, index = (part[:CHECKED] for part in time.result)
        # Measured again, the rows that were found.
        true = torch.stack([(data.double(index[i]) - few[i]).square().sum(1).sqrt() for i in range(len(few))])
        right = (true <= reference[:, -1:] * (1 + 1e-12)).double().mean().item()
        told[name] = right, ((distance.double() - reference).abs() / reference).max().item()
    if "mnemo" in told:
        right, worst = told["mnemo"]
        # Two orders of sums of at most 3072 terms differ by far less.
        if not (right == 1 and worst <= 1e-12):
            bench.fail(f"{what}: share of right rows {right}, relative error of a distance {worst:.1e}, at most 1e-12")
    return told
