"""Whole runs of a sampler on Fashion-MNIST, from noise to images."""

import statistics

import numpy as np

from clock import header, once, row
from data import fashion
from peers import EVERYONE, Mnemo

START, END, RHO = 80.0, 0.002, 7


def karras(steps):
    inner = np.arange(steps) / (steps - 1)
    return np.append((START ** (1 / RHO) + inner * (END ** (1 / RHO) - START ** (1 / RHO))) ** RHO, 0.0)


def heun(contender, x, nodes):
    """Karras et al. 2022, Alg. 1, as written; the state is float64."""
    slope = lambda x, t: -t * contender.score(x.astype(np.float32), t).astype(np.float64)
    x = x.astype(np.float64)
    for t, after in zip(nodes, nodes[1:]):
        d = slope(x, t)
        ahead = x + (after - t) * d
        x = ahead if after == 0 else x + (after - t) * 0.5 * (d + slope(ahead, after))
    return x


def euler(contender, x, nodes):
    x = x.astype(np.float64)
    for t, after in zip(nodes, nodes[1:]):
        x = x - (after - t) * t * contender.score(x.astype(np.float32), t)
    return x


def sampler(options):
    data = fashion()
    contenders = [contender(data) for contender in EVERYONE]
    ours = contenders[0]
    # The bounds are made once for a data set; see the scores.
    ours.score(data.noised(1, 0.01), 0.01)
    draw = lambda batch: (START * np.random.default_rng(7).standard_normal((batch, data.d))).astype(np.float32)
    names = [c.name for c in contenders]
    print(f"\n### Samplers on {data.name}, sigma {START:g} to {END:g}")
    header("run", "B", *(f"{name} s" for name in names), "best peer / mnemo", "runs", "largest difference of a pixel from mnemo's")

    x, runs = draw(64), min(3, options.runs)
    mine = lambda: ours.model.sample(x, "heun", "karras", 18, denoise_last=True, t_start=START, t_end=END)
    works = {c.name: mine if isinstance(c, Mnemo) else lambda c=c: heun(c, x, karras(18)) for c in contenders}
    times, ends = {name: [] for name in names}, {}
    for _ in range(runs):
        for name, work in works.items():
            ms, ends[name] = once(work)
            times[name].append(ms / 1e3)
    seconds = [statistics.median(times[name]) for name in names]
    apart = ", ".join(f"{name} {np.abs(ends[name] - ends['mnemo']).max():.1e}" for name in names[1:])
    row("EDM, 18 steps (Heun, Karras)", 64, *seconds, min(seconds[1:]) / seconds[0], runs, apart)

    x, steps, share = draw(16), 1000, 20
    mine = lambda: ours.model.sample(x, "euler", "uniform_s", steps, t_start=START, t_end=END)
    nodes = START * (END / START) ** (np.arange(steps // share + 1) / (steps // share))
    seconds = [once(mine)[0] / 1e3]
    seconds += [share * once(lambda c=c: euler(c, x, nodes))[0] / 1e3 for c in contenders[1:]]
    row(f"Euler, {steps} steps; the peers {steps // share}, times {share}", 16, *seconds, min(seconds[1:]) / seconds[0], 1, "")
