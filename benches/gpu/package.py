"""The Python package on a device's tensors: mnemo.torch, and samples of a PyTorch model. Checks, not times: each against the C ABI, or
against the same on the CPU."""

import torch

import data as sets
import library
from clock import Table

# Between a CUDA context and a CPU context, which add in another order; in the units of the largest number. float32: rounded once.
CLOSE = {torch.float64: 1e-10, torch.float32: 3e-7}
SIGMA = 0.5


def package(bench, on_cuda, peak):
    print("\n### The Python package on the device's tensors")
    table = Table("check", "result")
    try:
        # The library is the one that library.py loaded.
        import mnemo
        import mnemo.torch
    except Exception as error:
        bench.report("package, import mnemo.torch", error, is_ours=True)
        table.row("import mnemo.torch", "failed")
        return
    for check in (bits, strides, streams, derivatives, times, compiled, sampling, models):
        if check is models and on_cuda and bench.device.type != "cuda":
            table.row(check.__doc__.rstrip("."), "not run: PyTorch needs CUDA for it")
            continue
        try:
            with torch.inference_mode(False), torch.enable_grad():
                check(Subjects(mnemo, bench.device, on_cuda))
            told = "passed"
        except Exception as error:
            bench.report(f"package, {check.__name__}", error, is_ours=True)
            told = "FAILED"
        table.row(check.__doc__.rstrip("."), told)


class Subjects:
    """The same small data on the device and on the CPU."""

    def __init__(self, mnemo, device, on_cuda):
        self.mnemo, self.device = mnemo, device
        self.data = sets.latents(device, small=True)
        self.edm = mnemo.Process.ve_power(2, 1, 80)
        self.context = mnemo.Context(device="cuda:0") if on_cuda else mnemo.Context()
        there = mnemo.Dataset(self.data.raw, context=self.context)
        here = mnemo.Dataset(self.data.raw.cpu().numpy())
        self.there, self.here = (mnemo.torch.Empirical(rows, self.edm) for rows in (there, here))
        self.scores = [mnemo.Score.empirical(rows, self.edm) for rows in (there, here)]

    def x(self, dtype=torch.float64):
        return self.data.noised(24, SIGMA).to(dtype)


def near(found, expected):
    """On the same device as it should be, and close to it."""
    expected = expected.to(found.device)
    scale = expected.abs().max().clamp_min(1e-300)
    error = ((found - expected).abs().max() / scale).item()
    assert error <= CLOSE[found.dtype], f"off by {error:.1e}, at most {CLOSE[found.dtype]:g}"


def bits(on):
    """Score: the bits of the C ABI, on the device of x."""
    data = on.data
    rows = library.Dataset(library.Context(on.context.describe()["backend"] == "cuda"), data.raw)
    for dtype in CLOSE:
        x = on.x(dtype)
        expected = library.Score(rows).evaluation(x, SIGMA)()
        found = on.there.score(x, SIGMA)
        assert found.device == x.device and torch.equal(found, expected)
        near(on.there.denoised(x, SIGMA), on.here.denoised(x.cpu(), SIGMA))
        near(on.there.log_density(x, SIGMA), on.here.log_density(x.cpu(), SIGMA))


def strides(on):
    """Score: any strides of x."""
    x = on.x()
    wide = torch.stack([x, 7 * x], 2)[:, :, 0]
    assert not wide.is_contiguous() and torch.equal(on.there.score(wide, SIGMA), on.there.score(x, SIGMA))


def streams(on):
    """Score: on the current stream, behind its work."""
    x = on.x()
    expected = on.there.score(x, SIGMA)
    if on.device.type != "cuda":
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # Takes a while, so that a call on another stream would read x too early.
        late = torch.full_like(x, float("nan"))
        square = torch.ones(4096, 4096, device=on.device)
        for _ in range(20):
            square = (square @ square).clamp_(max=1)
        late.copy_(x)
        found = on.there.score(late, SIGMA)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(found, expected)


def derivatives(on):
    """Derivatives: of ln p the score, of the score its jvp."""
    x = on.x().requires_grad_()
    (slope,) = torch.autograd.grad(on.there.log_density(x, SIGMA).sum(), x)
    near(slope, on.here.score(x.detach().cpu(), SIGMA))
    v = torch.ones_like(x).cumsum(1)
    near(on.there.jvp(x.detach(), SIGMA, v), on.here.jvp(x.detach().cpu(), SIGMA, v.cpu()))
    (back,) = torch.autograd.grad((on.there.score(x, SIGMA) * v).sum(), x)
    # The derivative of a gradient is symmetric.
    near(back, on.here.jvp(x.detach().cpu(), SIGMA, v.cpu()))


def times(on):
    """Times: one for each row, on the host and on the device."""
    x = on.x()
    t = torch.linspace(0.2, 2, len(x), dtype=torch.float64)
    expected = on.here.score(x.cpu(), t)
    near(on.there.score(x, t), expected)
    near(on.there.score(x, t.to(on.device)), expected)


def compiled(on):
    """torch.compile: a part of its graph."""
    x = on.x(torch.float32)
    step = lambda x: x + SIGMA**2 * on.there.score(x, SIGMA)
    # The compiler may fuse the product and the sum.
    near(torch.compile(step, fullgraph=True)(x), step(x))


def sampling(on):
    """Samples: of the device's states, on the device."""
    there, here = on.scores
    start = 80 * torch.randn(16, on.data.d, dtype=torch.float64, generator=sets.generator(on.device, 5), device=on.device)
    # PyTorch's of PyTorch's on a device; on the CPU numpy's.
    found = torch.as_tensor(there.sample(start, denoise_last=True))
    assert found.device == start.device
    near(found, torch.as_tensor(here.sample(start.cpu().numpy(), denoise_last=True)))
    # The same random numbers, to the bit.
    noise = [torch.as_tensor(score.sample(16, "euler_maruyama", steps=3, seed=9)).cpu() for score in on.scores]
    near(noise[0], noise[1])


def models(on):
    """Samples of a PyTorch model, which is lent device memory."""
    class Gaussian(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.variance = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

        def forward(self, x, t):
            return (self.variance / (self.variance + t**2)).reshape(-1, 1, 1) * x

    d = on.data.d
    make = lambda device, context: on.mnemo.torch.custom_score(on.edm, (2, d // 2), Gaussian().to(device), "x0", context=context)
    x = on.x()
    there, here = make(on.device, on.context), make("cpu", None)
    found = torch.as_tensor(there.sample(x, t_start=SIGMA))
    assert found.device == x.device
    near(found, torch.as_tensor(here.sample(x.cpu().numpy(), t_start=SIGMA)))
    v = torch.ones_like(x)
    near(torch.as_tensor(there.jvp(x, SIGMA, v)), torch.as_tensor(here.jvp(x.cpu().numpy(), SIGMA, v.cpu().numpy())))
