"""Whole runs of a sampler: images from noise, where products are the work; and points of the plane, where launches are."""

import torch

import data as sets
import floors
import peers
from clock import Table, percent, ratios
from graph import captured
from library import Context, Dataset, Score, abi

# EDM's run over images.
START, END, RHO, STEPS, IMAGES = 80.0, 0.002, 7, 18, 64
# Of the plane.
TOY_START, TOY_END, TOY_STEPS, TOY_POINTS, TOY_SAMPLES = 10.0, 0.02, 1000, 20, 1000
# Steps of the compiled loop in one graph of the compiler's.
UNROLLED = 10
# Of a pixel, or a coordinate: roundings of float32 at the end, of numbers below 4, and of float64 on the way.
PROMISED = 1e-5
CHECKED = 4
ROW = 20


def karras(steps):
    inner = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    ends = START ** (1 / RHO), END ** (1 / RHO)
    return [*((ends[0] + inner * (ends[1] - ends[0])) ** RHO).tolist(), 0.0]


def heun(slope, x, nodes):
    """Karras et al. 2022, Alg. 1; slope(x, t) is dx/dt."""
    for t, after in zip(nodes, nodes[1:]):
        d = slope(x, t)
        ahead = x + (after - t) * d
        x = ahead if after == 0 else x + (after - t) * 0.5 * (d + slope(ahead, after))
    return x


def compiled_slope(keys, d, nodes):
    """dx/dt of a float32 state, compiled once for all times, which are on the device beforehand."""
    times = {t: torch.tensor(t, dtype=torch.float32, device=keys.device) for t in nodes}

    @torch.compile(dynamic=False)
    def slope(x, extension, t):
        weights = torch.softmax((torch.cat([x, extension], 1) @ keys.T) / (t * t), 1)
        return (x - (weights @ keys)[:, :d]) / t

    def run(x, t):
        torch.backends.cuda.matmul.allow_tf32 = False
        extension = torch.zeros(len(x), keys.shape[1] - d, device=x.device)
        extension[:, 0] = 1
        return slope(x, extension, times[t])

    return run


def ours(bench, on_cuda, data, what, start, options):
    """mnemo's run, and the same from a graph."""
    works = {}
    try:
        model = Score(Dataset(Context(on_cuda), data.raw, data.scale, data.shift))
        works["mnemo"] = model.sampler(start, *options)
        if bench.device.type == "cuda":
            works["mnemo, graph"] = captured(model.sampler(start, *options))
    except Exception as error:
        bench.report(f"{what}, mnemo", error, is_ours=True)
    return works


def images(bench, on_cuda, peak, table):
    data = sets.images(bench.device, bench.small)
    if data.about:
        bench.note(f"{data.name}, N = {data.n}: {data.about}.")
    batch = 8 if bench.small else IMAGES
    start = START * torch.randn(batch, data.d, generator=sets.generator(bench.device, 7), device=bench.device)
    nodes, what = karras(STEPS), "sampler, images"
    works = ours(bench, on_cuda, data, what, start, (abi.MNEMO_SOLVER_HEUN, abi.MNEMO_GRID_KARRAS, STEPS, START, END, True))
    try:
        others = {other.name: other for other in peers.products(data) if other.name in ("fp64", "fp32", "TF32")}
        for name, other in others.items():
            slope = lambda x, t, other=other: -t * other.score(x, t)
            works[name] = lambda other=other, slope=slope: heun(slope, start.to(other.wide), nodes)
        compiled = compiled_slope(others["fp32"].keys, data.d, nodes)
        # Compiles.
        compiled(start, nodes[0])
        works["fp32 compiled"] = lambda: heun(compiled, start, nodes)
    except Exception as error:
        bench.report(f"{what}, peers", error, is_ours=False)
    found = bench.race(what, works, 1 if bench.small else ROW)
    reference = heun(lambda x, t: -t * peers.exact_score(data, x, t)[0], start[:CHECKED].double(), nodes)
    evaluations = 2 * STEPS - 1
    floor = [f and evaluations * f for f in floors.score(peak, batch, data.n, data.d, data.row_bytes)]
    rows(bench, table, f"Heun, {STEPS} steps: {data.name} {data.dtype}, B = {batch}, N = {data.n}, d = {data.d}", found, reference, floor)


def step(x, y, half, t, after):
    """dx/dt = (x - mean) / t, one step of Euler's."""
    weights = torch.softmax((x @ y.T - half) / t**2, 1)
    return x + (x - weights @ y) * ((after - t) / t)


def euler(x, y, half, times):
    torch.backends.cuda.matmul.allow_tf32 = False
    for t, after in zip(times, times[1:]):
        x = step(x, y, half, t, after)
    return x


def compiled_euler(times):
    """The loop with UNROLLED steps in one graph of the compiler's; products of two columns are written as sums."""

    @torch.compile(dynamic=False)
    def steps(x, y, half, times):
        for i in range(UNROLLED):
            t, after = times[i], times[i + 1]
            logits = (x[:, :1] * y[:, 0] + x[:, 1:] * y[:, 1] - half) / t**2
            weights = torch.softmax(logits, 1)
            mean = torch.stack([(weights * y[:, 0]).sum(1), (weights * y[:, 1]).sum(1)], 1)
            x = x + (x - mean) * ((after - t) / t)
        return x

    def run(x, y, half):
        for i in range(0, len(times) - 1, UNROLLED):
            x = steps(x, y, half, times[i : i + UNROLLED + 1])
        return x

    return run


def exact_euler(x, y, times):
    """In float64, by differences."""
    for t, after in zip(times, times[1:]):
        weights = torch.softmax(-0.5 * (x[:, None] - y[None]).square().sum(2) / t**2, 1)
        x = x + (x - weights @ y) * ((after - t) / t)
    return x


def plane(bench, on_cuda, peak, table):
    steps, batch = (50, 16) if bench.small else (TOY_STEPS, TOY_SAMPLES)
    data = sets.plane(TOY_POINTS, bench.device)
    y, what = data.raw, "sampler, plane"
    half = 0.5 * y.square().sum(1)
    start = TOY_START * torch.randn(batch, 2, generator=sets.generator(bench.device, 8), device=bench.device)
    times = [TOY_START + (TOY_END - TOY_START) * i / steps for i in range(steps + 1)]
    works = ours(bench, on_cuda, data, what, start,
                 (abi.MNEMO_SOLVER_EULER, abi.MNEMO_GRID_UNIFORM_T, steps, TOY_START, TOY_END, False))
    loops = {"fp32": lambda: euler(start, y, half, times)}
    compiled = compiled_euler(torch.tensor(times, dtype=torch.float32, device=bench.device))
    loops["fp32 compiled"] = lambda: compiled(start, y, half)
    for name, loop in loops.items():
        try:
            # Compiles, where there is something to compile.
            loop()
            works[name] = loop
            if bench.device.type == "cuda":
                works[f"{name}, graph"] = captured(loop)
        except Exception as error:
            bench.report(f"{what}, {name}", error, is_ours=False)
    found = bench.race(what, works, 1 if bench.small else ROW)
    reference = exact_euler(start[:CHECKED].double(), y.double(), times)
    floor = [f and steps * f for f in floors.score(peak, batch, data.n, data.d, data.row_bytes)]
    rows(bench, table, f"Euler, {steps} steps: plane, B = {batch}, N = {data.n}, d = 2", found, reference, floor)


def rows(bench, table, what, found, reference, floor):
    errors = {name: (time.result[:CHECKED].double() - reference).abs().max().item() for name, time in found.items()}
    best = ratios(found, {name: error <= PROMISED for name, error in errors.items()})
    for name, time in found.items():
        shares = floors.shares(floor, time.ms) if name.startswith("mnemo") else (None, None)
        over = time.ms / found["mnemo"].ms if "mnemo" in found else None
        table.row(what, name, time, over, f"{errors[name]:.1e}", *map(percent, shares), *(best if name == "mnemo" else (None, None)))
        if name.startswith("mnemo") and not errors[name] <= PROMISED:
            bench.fail(f"{what}, {name}: off by {errors[name]:.1e}, at most {PROMISED:g}")


def sampler(bench, on_cuda, peak):
    print(f"\n### Samplers\n\nMilliseconds of a whole run. Errors: the largest of a number at the end, of {CHECKED} samples, against "
          f"the same steps in float64 by differences; accurate: at most {PROMISED:g}. Graphs: the whole run captured once and replayed.")
    table = Table("run", "by", "ms", "time / mnemo", "error", "share of float64 floor", "share of bf16 floor",
                  "best accurate peer / mnemo", "best peer / mnemo")
    for name, part in (("images", images), ("plane", plane)):
        if bench.leaves_out(table, name):
            continue
        try:
            part(bench, on_cuda, peak, table)
        except Exception as error:
            bench.report(f"sampler, {name}", error, is_ours=True)
