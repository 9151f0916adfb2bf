"""Points of the plane: many cheap steps, where what is paid besides the arithmetic shows."""

import statistics

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torchdiffeq import odeint

import mnemo
from clock import header, interleaved, number, once, row
from peers import edm

POINTS, SAMPLES, STEPS = 20, 1000, 1000
START, END = 10.0, 0.02
# Of the compiled loop, in one graph.
UNROLLED = 10


def problem():
    rng = np.random.default_rng(1)
    return rng.standard_normal((POINTS, 2)), START * rng.standard_normal((SAMPLES, 2))


def model(y):
    return mnemo.Score.empirical(mnemo.Dataset(y), edm())


def euler_numpy(y, x, dtype=np.float32):
    """dx/dt = (x - ybar) / t; samples lie along the rows, for longer vectors."""
    y, x = y.T.astype(dtype), x.T.astype(dtype)
    keys = np.vstack([y, -0.5 * (y * y).sum(0)]).T.copy()
    ones = np.ones((1, SAMPLES), dtype)
    w, times = np.empty((POINTS, SAMPLES), dtype), np.linspace(START, END, STEPS + 1)
    for t, after in zip(times, times[1:]):
        np.matmul(keys, np.vstack([x, ones]) * dtype(1 / t**2), out=w)
        w -= w.max(0)
        np.exp(w, out=w)
        mean = y @ w
        mean /= w.sum(0)
        x = x + (x - mean) * dtype((after - t) / t)
    return x.T


def torch_step(x, y, half, t, after):
    w = torch.softmax((y[0][:, None] * x[0] + y[1][:, None] * x[1] - half[:, None]) / t**2, 0)
    return x + (x - torch.stack([(y[0][:, None] * w).sum(0), (y[1][:, None] * w).sum(0)])) * ((after - t) / t)


def torch_matmul_step(x, y, half, t, after):
    w = torch.softmax((y.T @ x - half[:, None]) / t**2, 0)
    return x + (x - y @ w) * ((after - t) / t)


def euler_torch(y, x):
    with torch.inference_mode():
        y, x = torch.from_numpy(y.T.astype(np.float32)), torch.from_numpy(x.T.astype(np.float32))
        half, times = 0.5 * (y * y).sum(0), np.linspace(START, END, STEPS + 1)
        for t, after in zip(times, times[1:]):
            x = torch_matmul_step(x, y, half, float(t), float(after))
    return x.T.numpy()


def compiled():
    """The loop with a graph of UNROLLED steps, or None where torch.compile has no compiler."""

    @torch.compile(dynamic=False)
    def steps(x, y, half, times):
        for i in range(UNROLLED):
            x = torch_step(x, y, half, times[i], times[i + 1])
        return x

    def euler(y, x):
        with torch.inference_mode():
            y, x = torch.from_numpy(y.T.astype(np.float32)), torch.from_numpy(x.T.astype(np.float32)).contiguous()
            half, times = 0.5 * (y * y).sum(0), torch.linspace(START, END, STEPS + 1, dtype=torch.float64).float()
            for i in range(0, STEPS, UNROLLED):
                x = steps(x, y, half, times[i : i + UNROLLED + 1])
        return x.T.numpy()

    try:
        euler(*problem())
    except Exception as error:  # what is missing is told in many ways
        print(f"\ntorch.compile is left out: {type(error).__name__}")
        return None
    return euler


def euler(options):
    y, x = problem()
    ours, x32 = model(y.astype(np.float32)), x.astype(np.float32)
    works = {
        "mnemo": lambda: ours.sample(x32, "euler", "uniform_t", STEPS, t_start=START, t_end=END),
        "numpy": lambda: euler_numpy(y, x),
        "torch": lambda: euler_torch(y, x),
        "torch.compile": (lambda loop: loop and (lambda: loop(y, x)))(compiled()),
    }
    works = {name: work for name, work in works.items() if work}
    times = interleaved(works, options.runs)
    reference = euler_numpy(y.astype(np.float32), x32, np.float64)
    best = min(ms for name, ms in times.items() if name != "mnemo")
    print(f"\n### Euler in the plane: {SAMPLES} samples, {STEPS} steps, {POINTS} points, float32")
    header("", "ns per sample and step", "time / mnemo", "largest error of a sample, against float64")
    for name, ms in times.items():
        error = np.abs(works[name]() - reference).max()
        row(name, 1e6 * ms / SAMPLES / STEPS, ms / times["mnemo"], f"{error:.1e}")
    print(f"\nBest peer / mnemo: {number(best / times['mnemo'])}")


RK_END = 0.05
TOLERANCE = 1e-6


def slope(t, x, y, half):
    """dx/dt at [samples, 2] in float64."""
    w = (x @ y.T - half) / t**2
    w -= w.max(1, keepdims=True)
    np.exp(w, out=w)
    return (x - (w @ y) / w.sum(1, keepdims=True)) / t


def scipy_solve(y, x, tolerance, method="RK45"):
    half = 0.5 * (y * y).sum(1)
    f = lambda t, v: slope(t, v.reshape(-1, 2), y, half).reshape(-1)
    return solve_ivp(f, (START, RK_END), x.reshape(-1), method, rtol=tolerance, atol=tolerance).y[:, -1].reshape(-1, 2)


def diffeq_solve(y, x):
    y, x = torch.from_numpy(y), torch.from_numpy(x)
    half = 0.5 * (y * y).sum(1)
    f = lambda t, v: (v - torch.softmax((v @ y.T - half) / t**2, 1) @ y) / t
    with torch.inference_mode():
        ends = torch.tensor([START, RK_END], dtype=torch.float64)
        return odeint(f, x, ends, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")[-1].numpy()


def rk45(options):
    """A peer's time at its tolerance, and ours at the loosest one with which 99 of 100 samples are as near to the truth."""
    y, x = problem()
    ours, reference = model(y), scipy_solve(y, x, 1e-13, "DOP853")
    error = lambda found: np.quantile(np.abs(found - reference).max(1), 0.99)
    solve = lambda tol: ours.sample(x, "rk45", t_start=START, t_end=RK_END, rtol=tol, atol=tol)
    ladder = {tol: error(solve(tol)) for tol in 10 ** np.arange(-3, -11, -0.25)}
    few = SAMPLES // 20
    one_by_one = lambda: np.concatenate([scipy_solve(y, one[None], TOLERANCE) for one in x[:few]])
    peers = {"scipy, batch": lambda: scipy_solve(y, x, TOLERANCE), "torchdiffeq": lambda: diffeq_solve(y, x)}
    print(f"\n### RK45 in the plane: {SAMPLES} samples, sigma {START:g} to {RK_END:g}, peers at tolerance {TOLERANCE:g}, float64")
    header("peer", "its ms", "its error", "mnemo's tolerance", "mnemo's error", "mnemo ms", "peer / mnemo")
    for name, peer in peers.items():
        reached = error(peer())
        tol = next((tol for tol, mine in ladder.items() if mine <= reached), min(ladder))
        times = interleaved({"peer": peer, "mnemo": lambda: solve(tol)}, options.runs)
        row(name, times["peer"], f"{reached:.1e}", f"{tol:.1e}", f"{ladder[tol]:.1e}", times["mnemo"], times["peer"] / times["mnemo"])
    ms, found = once(one_by_one)
    reached = np.quantile(np.abs(found - reference[:few]).max(1), 0.99)
    tol = next((tol for tol, mine in ladder.items() if mine <= reached), min(ladder))
    mine = statistics.median(once(lambda: solve(tol))[0] for _ in range(options.runs))
    ms *= SAMPLES / few
    row(f"scipy, each sample ({few} of them, times {SAMPLES // few})", ms, f"{reached:.1e}", f"{tol:.1e}", f"{ladder[tol]:.1e}", mine, ms / mine)
    print("\nErrors are of the worst coordinate at the end, 99th percentile of the samples, against DOP853 at 1e-13.")


def toy(options):
    euler(options)
    rk45(options)
