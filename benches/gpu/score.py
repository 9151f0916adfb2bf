"""The empirical score, from where every row counts to where one does."""

import torch

import data as sets
import floors
import peers
from clock import Table, number, percent, ratios
from library import Context, Dataset, Score

SIGMAS = (10, 1, 0.3, 0.1, 0.05)
# What mnemo promises for float32 samples: relative L2 error of the score. A peer within it counts as accurate.
PROMISED = 1e-5
# Of ln p, in nats, beyond the 1e-15 of its terms that float64 loses: they are below 1e7 here.
PROMISED_NATS = 1e-6
# Queries whose errors are looked at.
CHECKED = 8
# For the runs of one row, seconds.
ROW = 10


def cases(device, small):
    """(data set, batches), each made when it is asked for."""
    images = sets.images(device, small)
    yield images, (256, 16, 1)
    yield sets.synthetic(device, small), (1024,)
    yield sets.latents(device, small), (10000,)
    for n in (20, 1000, 100000):
        yield sets.plane(min(n, 50) if small else n, device), (1000,)
    yield sets.widened(images), (256,)


def score(bench, on_cuda, peak):
    print("\n### Score\n\nMilliseconds; s(x) of noised rows, float32, sigma = t; the score alone.")
    times = Table("data", "B", "N", "d", "sigma", "mnemo", *peers.PRODUCTS, *peers.ATTENTION, "best accurate peer / mnemo",
                  "best peer / mnemo", "share of float64 floor", "share of bf16 floor", "mnemo MiB")
    errors = []
    for data, batches in cases(bench.device, bench.small):
        if data.about:
            bench.note(f"{data.name}, N = {data.n}: {data.about}.")
        others = []
        for batch in batches:
            batch = min(batch, 24) if bench.small else batch
            shape = (f"{data.name} {data.dtype}", batch, data.n, data.d)
            if bench.leaves_out(times, *shape, "all"):
                continue
            errors += case(bench, on_cuda, peak, times, data, shape, others)
    print(f"\nErrors against float64 by differences, {CHECKED} queries. Of the score, relative, median and largest; of ln p, nats, "
          "largest.")
    table = Table("data", "B", "N", "d", "sigma", "mnemo", *peers.PRODUCTS, *peers.ATTENTION)
    for row in errors:
        table.row(*row)


def case(bench, on_cuda, peak, times, data, shape, others):
    """The rows of one data set and batch; returns those of the table of errors. `others` are made once for a data set."""
    batch, errors = shape[1], []
    model, used = bench.attempt(f"score, {shape}, mnemo", lambda: made(bench, on_cuda, data, batch), True) or (None, None)
    if not others:
        others += bench.attempt(f"score, {shape}, peers", lambda: peers.scores(data), False) or []
    for sigma in SIGMAS:
        if bench.leaves_out(times, *shape, f"{sigma:g}"):
            continue
        x, what = data.noised(batch, sigma), f"score, {shape}, sigma = {sigma:g}"
        ours = model and bench.attempt(f"{what}, mnemo", lambda: model.evaluation(x, sigma), True)
        works = {"mnemo": ours} if ours else {}
        works |= {other.name: lambda other=other: other.score(x, sigma) for other in others}
        found = bench.race(what, works, 1 if bench.small else ROW)
        told = bench.attempt(f"{what}, errors", lambda: judge(bench, data, what, x, sigma, model, others, found), True)
        if told is None:
            times.missing("failed", *shape, f"{sigma:g}")
            continue
        accurate = {name: name in told and told[name][1] <= PROMISED for name in found}
        ms = found["mnemo"].ms if "mnemo" in found else None
        floor = floors.shares(floors.score(peak, batch, data.n, data.d, data.row_bytes), ms)
        names = ("mnemo", *peers.PRODUCTS, *peers.ATTENTION)
        times.row(*shape, f"{sigma:g}", *(found.get(name) for name in names), *ratios(found, accurate), *map(percent, floor), used)
        errors.append((*shape, f"{sigma:g}", *(cell(told.get(name)) for name in names)))
    return errors


def made(bench, on_cuda, data, batch):
    """A score in a context of its own, and the MiB that one evaluation took on the device, all told."""
    context = Context(on_cuda)
    context.warm_up()
    x = data.noised(batch, SIGMAS[0])
    before = bench.free_memory()
    model = Score(Dataset(context, data.raw, data.scale, data.shift))
    model.evaluation(x, SIGMAS[0])()
    after = bench.free_memory()
    return model, None if before is None else before - after


def judge(bench, data, what, x, sigma, model, others, found):
    """(median, largest) error of the score and the largest of ln p, of those who ran."""
    few = x[:CHECKED]
    reference, log_p = peers.exact_score(data, few, sigma)
    densities = {other.name: other.log_density for other in others if other.name in peers.PRODUCTS}
    told = {}
    for name, time in found.items():
        nats = None
        if name == "mnemo":
            nats = model.evaluation(few.contiguous(), sigma, log_density=True)()
        elif name in densities:
            nats = densities[name](few, sigma)
        off = None if nats is None else (nats - log_p).abs().max().item()
        told[name] = (*peers.score_errors(time.result[:CHECKED], reference), off)
    if "mnemo" in told:
        _, worst, nats = told["mnemo"]
        # Written so that NaN fails.
        if not (worst <= PROMISED and nats <= PROMISED_NATS):
            bench.fail(f"{what}: relative error {worst:.1e}, at most {PROMISED:g}; ln p off by {nats:.1e} nats, at most {PROMISED_NATS:g}")
        if not torch.isfinite(found["mnemo"].result).all():
            bench.fail(f"{what}: not all numbers are finite")
    return told


def cell(errors):
    if errors is None:
        return None
    median, worst, nats = errors
    return f"{median:.0e}, {worst:.0e}" + ("" if nats is None else f"; {number(nats) if nats >= 0.1 else f'{nats:.0e}'}")
