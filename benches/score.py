"""The empirical score, at noise levels from where every row counts to where one does, and between two rows."""

import numpy as np

import mnemo
from clock import header, interleaved, number, once, row
from data import DATA, SYNTHETIC
from peers import EVERYONE, PEERS, exact, score_errors

SIGMAS = (10, 3, 2, 1, 0.5, 0.3, 0.1, 0.05)
BATCHES = (1, 16, 64, 256)
# Queries whose errors are looked at: they cost more than the benchmark.
CHECKED = 4
PEER_NAMES = [peer.name for peer in PEERS]


def prepared(data):
    """The contenders, each with what it does once for a data set."""
    print(f"\n### {data.name}: {data.n} rows of {data.d}, kept by mnemo as {data.raw.dtype}, by the others as float32")
    if data.name == "synthetic":
        print(f"\n{SYNTHETIC}.")
    data.diameter
    made = {contender.name: once(lambda: contender(data)) for contender in EVERYONE}
    contenders, x = [contender for _, contender in made.values()], data.noised(1, 0.01)
    bounds, _ = once(lambda: contenders[0].score(x, 0.01))
    # numpy is the first to ask for what all peers use.
    print(f"\nOnce for the data set: mnemo {number(made['mnemo'][0])} ms, and its bounds for small sigma {number(bounds)} ms; the "
          f"others' float32 rows and norms {number(made['numpy'][0])} ms, SDPA's keys {number(made['SDPA'][0])} ms more.")
    return contenders


def score(options):
    for name in options.data:
        data = DATA[name]()
        contenders = prepared(data)
        products = grid(data, contenders, options)
        dense(products)
        accuracy(data, contenders, options)


def grid(data, contenders, options):
    """The times. Returns, for each batch, those of mnemo and of the plain products at the largest sigma."""
    header("B", "sigma", "mnemo ms", *(f"{name} ms" for name in PEER_NAMES), "best peer / mnemo")
    found = {}
    for batch in options.batch:
        for sigma in options.sigma:
            x = data.noised(batch, sigma)
            works = {c.name: lambda c=c: c.score(x, sigma) for c in contenders}
            if sigma == max(options.sigma):
                works |= {f"{c.name} products": lambda c=c: c.products(x) for c in contenders if hasattr(c, "products")}
            times = interleaved(works, options.runs)
            best = min(times[name] for name in PEER_NAMES)
            row(batch, f"{sigma:g}", times["mnemo"], *(times[name] for name in PEER_NAMES), best / times["mnemo"])
            if sigma == max(options.sigma):
                found[batch] = sigma, times
    return found


def dense(found):
    """mnemo where every row counts against the two matrix products alone, which every dense way must do."""
    header("B", "sigma", "mnemo ms", "products, numpy ms", "products, torch ms", "best products / mnemo")
    for batch, (sigma, times) in found.items():
        plain = [times[f"{name} products"] for name in ("numpy", "torch")]
        row(batch, f"{sigma:g}", times["mnemo"], *plain, min(plain) / times["mnemo"])


def accuracy(data, contenders, options):
    with_density = [c for c in contenders if c.log_density]
    print(f"\nErrors against float64 by differences, {CHECKED} queries: the score's relative, median; log p in nats, largest.")
    header("sigma", *(f"score: {c.name}" for c in contenders), *(f"log p: {c.name}" for c in with_density))
    for sigma in options.sigma:
        x = data.noised(CHECKED, sigma)
        reference, log_p = exact(data, x, sigma)
        errors = [np.median(score_errors(c.score(x, sigma), reference)) for c in contenders]
        nats = [np.abs(c.log_density(x, sigma) - log_p).max() for c in with_density]
        row(f"{sigma:g}", *(f"{e:.1e}" for e in errors + nats))


def bisector(options):
    """Queries as near to one row as to another, where what is wrong in a distance is wrong in the score."""
    batch = 64
    for name in options.data:
        data = DATA[name]()
        contenders = [contender(data) for contender in EVERYONE]
        rows = np.random.default_rng(5).integers(data.n, size=batch)
        pairs = mnemo.nearest(contenders[0].data, data.double(rows), 2).index
        print(f"\n### Between two near rows: {data.name}, B = {batch}; relative errors of the score over {2 * CHECKED} queries")
        header("sigma", "mnemo ms", *(f"{name} ms" for name in PEER_NAMES), "best peer / mnemo",
               *(f"{c.name}: median, largest error" for c in contenders))
        for sigma in (0.1, 0.01):
            x = data.bisectors(pairs, sigma)
            times = interleaved({c.name: lambda c=c: c.score(x, sigma) for c in contenders}, options.runs)
            few = x[: 2 * CHECKED]
            reference, _ = exact(data, few, sigma)
            errors = [score_errors(c.score(few, sigma), reference) for c in contenders]
            best = min(times[name] for name in PEER_NAMES)
            row(f"{sigma:g}", times["mnemo"], *(times[name] for name in PEER_NAMES), best / times["mnemo"],
                *(f"{np.median(e):.1e}, {e.max():.1e}" for e in errors))
