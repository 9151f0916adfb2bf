# SPDX-License-Identifier: MIT OR Apache-2.0
"""mnemo.torch: values, derivatives, transforms, errors and lifetimes."""

import contextlib
import copy
import ctypes
import gc
import io
import pickle
import threading
import weakref

import numpy as np
import pytest
import torch
from conftest import DIM, PROCESSES, REGULARIZERS, jacobian_of_denoised, points, rows
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import mnemo
import mnemo.torch
from mnemo import _abi, _device, _score
from mnemo.torch import Empirical

T = 0.8
AOT = "aot_eager"  # all of torch.compile but the generation of code, which takes long


@pytest.fixture
def model(data, edm):
    return Empirical(data, edm)


@pytest.fixture
def x():
    return torch.from_numpy(points()).requires_grad_()


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()


def same(a, b):
    """Bit for bit."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


# ----- Values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_every_output_is_that_of_the_library(data, edm, regularizer, dtype):
    options = REGULARIZERS[regularizer]
    at = points().astype(dtype)
    expected = mnemo.Score.empirical(data, edm, regularizer, **options).eval(at, T, mnemo.torch._OUTPUTS)
    found = Empirical(data, edm, regularizer, **options).evaluate(torch.from_numpy(at), T, mnemo.torch._OUTPUTS)
    for name, e, f in zip(mnemo.Evaluation._fields, expected, found):
        assert f.dtype == (torch.int64 if name == "nearest_index" else torch.from_numpy(at).dtype), name
        assert np.array_equal(e.astype(f.numpy().dtype), f.numpy()), name


def test_methods_are_the_outputs_in_any_order(model, x):
    density, score, again = model.evaluate(x, T, ("log_density", "score", "log_density"))
    assert same(score, model.score(x, T))
    assert same(density, model.log_density(x, T)) and same(density, again)
    assert same(model(x, T), model.denoised(x, T))
    assert not same(model(x, T), score)


def test_options_reach_the_score(data, edm, x):
    expected = mnemo.Score.empirical(data, edm, label=1).score(x.detach().numpy(), T)
    assert np.array_equal(Empirical(data, edm, label=1).score(x, T).detach().numpy(), expected)


def test_any_batch_and_sample_shape(data, edm, model):
    flat = torch.from_numpy(points(n=6)).float()
    images = Empirical(data, edm, shape=(1, 2, 2))
    t = torch.linspace(0.5, 3, 6)
    expected = model.score(flat, t)
    assert same(images.score(flat.reshape(6, 1, 2, 2), t), expected.reshape(6, 1, 2, 2))
    assert same(images.score(flat.reshape(2, 3, 1, 2, 2), t.reshape(2, 3)), expected.reshape(2, 3, 1, 2, 2))
    assert images.log_density(flat.reshape(2, 3, 1, 2, 2), T).shape == (2, 3)
    assert same(images.score(flat[0].reshape(1, 2, 2), t[0]), expected[0].reshape(1, 2, 2))
    assert model.score(flat[:0], T).shape == (0, DIM) and model.log_density(flat[:0], T).shape == (0,)


def test_times_broadcast(model, x):
    each = model.log_density(x.reshape(2, 3, DIM), torch.tensor([[1.0], [2.0]]))
    assert same(each[0], model.log_density(x[:3], 1)) and same(each[1], model.log_density(x[3:], 2.0))
    assert same(model.log_density(x, np.float64(2)), model.log_density(x, torch.tensor(2)))


def test_any_strides(model):
    wide = torch.from_numpy(points(dim=2 * DIM))
    for view in (wide[:, ::2], wide[:, DIM:], wide[:, :DIM].flip(0), wide[0, :DIM].expand(6, DIM), wide[::2, :DIM]):
        assert same(model.score(view, T), model.score(view.clone(memory_format=torch.contiguous_format), T))
    channels_last = torch.from_numpy(rows(n=6, dim=12)).reshape(6, 3, 2, 2).to(memory_format=torch.channels_last)
    images = Empirical(mnemo.Dataset(rows(dim=12)), PROCESSES["ve_power"][0], shape=(3, 2, 2))
    assert same(images.score(channels_last, T).contiguous(), images.score(channels_last.contiguous(), T))


# ----- Derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["score", "denoised", "log_density"])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("process", PROCESSES)
def test_gradcheck(data, process, regularizer, name):
    the, t = PROCESSES[process]
    model = Empirical(data, the, regularizer, **REGULARIZERS[regularizer])
    x = torch.from_numpy(points(n=3)).requires_grad_()
    modes = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert gradcheck(lambda x: getattr(model, name)(x, t), (x,), **modes)


def test_regularizers_are_in_force_where_they_are_checked(data):
    for process, t in PROCESSES.values():
        for regularizer in ("bayes_density", "bayes_weight"):
            model = Empirical(data, process, regularizer, **REGULARIZERS[regularizer])
            at = torch.from_numpy(points(n=3))
            kept = model.score(at, t) / Empirical(data, process).score(at, t)
            assert (kept < 0.999).any(), (process, regularizer)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_gradient_of_log_density_is_the_mixtures_score(data, edm, x, regularizer):
    model = Empirical(data, edm, regularizer, label=2, **REGULARIZERS[regularizer])
    (grad,) = torch.autograd.grad(model.log_density(x, T).sum(), x)
    assert same(grad, Empirical(data, edm, label=2).score(x, T).detach())


def test_several_outputs_at_once(model, x):
    weights = [torch.from_numpy(points(seed=s)) for s in (5, 6)]

    def loss(score, denoised, density):
        return (score * weights[0]).sum() + (denoised * weights[1]).sum() + density.square().sum()

    (together,) = torch.autograd.grad(loss(*model.evaluate(x, T, ("score", "denoised", "log_density"))), x)
    (apart,) = torch.autograd.grad(loss(model.score(x, T), model.denoised(x, T), model.log_density(x, T)), x)
    torch.testing.assert_close(together, apart, rtol=1e-13, atol=1e-13)
    (score_only,) = torch.autograd.grad((model.evaluate(x, T, ("entropy", "score"))[1] * weights[0]).sum(), x)
    assert same(score_only, model.jvp(x, T, weights[0]).detach())


def test_second_derivative_of_log_density(model, x):
    assert gradgradcheck(lambda x: model.log_density(x, T), (x,))


def test_what_has_no_derivative_says_so(model, x):
    (first,) = torch.autograd.grad(model.score(x, T).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivative only"):
        first.sum().backward()
    with pytest.raises(NotImplementedError, match="first derivative only"):
        torch.func.jacfwd(torch.func.jacfwd(lambda x: model.denoised(x, T)))(x[0].detach())
    for name in ("entropy", "divergence", "nearest_distance"):
        with pytest.raises(NotImplementedError, match=f"{name} has no derivative"):
            model.evaluate(x, T, (name,))[0].sum().backward()
        assert torch.isfinite(model.evaluate(x.detach(), T, (name,))[0]).all()
    assert not model.evaluate(x, T, ("nearest_index",))[0].requires_grad


def test_time_is_not_differentiated(model, x):
    t = torch.tensor(T, requires_grad=True)
    at = x.detach()
    with pytest.raises(TypeError, match="t is not differentiated"):
        model.score(at, t)
    with pytest.raises(TypeError, match="t is not differentiated"):
        torch.ops.mnemo.evaluate(at, t.double().expand(6), model._lease.ticket, ["score"], False)
    with pytest.raises(TypeError, match="t is not differentiated"):
        torch.ops.mnemo.jvp(at, t.double().expand(6), at, model._lease.ticket, False, False)
    with pytest.raises(TypeError, match="t is not differentiated"):
        torch.func.grad(lambda t: model.log_density(at, t).sum())(t.detach())
    with pytest.raises(TypeError, match="t is not differentiated"):
        torch.func.jvp(lambda t: model.score(at, t), (t.detach(),), (torch.tensor(1.0),))
    with torch.no_grad():
        assert same(model.score(x, t), model.score(x, t.item()))


def test_gradient_in_float32_near_a_training_row(edm):
    row = rows(n=5)
    row[1] = row[0] + 0.04
    x, sigma = row[0] + 0.02, 0.05
    expected = jacobian_of_denoised(row, x, sigma)
    model = Empirical(mnemo.Dataset(row), edm)
    found = torch.func.jacrev(lambda x: model(x, sigma))(torch.from_numpy(x).float()).double().numpy()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    alone = torch.func.jacrev(lambda x: model(x, 1e-3))(torch.from_numpy(row[3]).float())
    assert alone.abs().max() < 1e-6  # sigma^2 J + 1, both near 1, would leave 1e-7 of them in float32


def test_denoised_at_the_end_of_the_flow(data):
    model = Empirical(data, mnemo.Process.flow())
    x = torch.from_numpy(points()).requires_grad_()
    value = model(x, 1.0)
    torch.testing.assert_close(value[0], torch.from_numpy(rows().mean(0)))
    value.sum().backward()
    assert same(x.grad, torch.zeros_like(x))
    regularized = Empirical(data, mnemo.Process.flow(), "tikhonov", strength=0.1)
    with pytest.raises(mnemo.Error, match="does not exist"):
        torch.ops.mnemo.jvp(
            x.detach(), torch.ones(len(x)), x.detach(), regularized._lease.ticket, True, False
        )


def test_jvp_method(model, x):
    v = torch.from_numpy(points(seed=9))
    assert same(model.jvp(x, T, v).detach(), torch.func.jvp(lambda x: model.score(x, T), (x.detach(),), (v,))[1])
    v.requires_grad_()
    assert gradcheck(lambda v: model.jvp(x.detach(), T, v), (v,), check_forward_ad=True)
    with pytest.raises(NotImplementedError, match="first derivative only"):
        model.jvp(x, T, v).sum().backward()
    with pytest.raises(mnemo.ShapeError, match="v has shape"):
        model.jvp(x, T, v[:2])
    with pytest.raises(mnemo.DtypeError, match="v is torch.float32"):
        model.jvp(x, T, v.float())


# ----- torch.library, torch.func, torch.compile -----------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [["score"], ["denoised", "log_density"], ["log_density", "nearest_index"]])
def test_opcheck_evaluate(model, x, outputs):
    t = torch.full((6,), T, dtype=torch.float64)
    for at in (x, x.detach().float(), x.detach()[:0]):
        torch.library.opcheck(mnemo.torch._evaluate, (at, t[: len(at)], model._lease.ticket, outputs, False))


@pytest.mark.parametrize("denoised", [False, True])
def test_opcheck_jvp(model, x, denoised):
    t = torch.full((6,), T, dtype=torch.float64)
    at, v = x.detach(), torch.from_numpy(points(seed=9)).requires_grad_()
    torch.library.opcheck(mnemo.torch._jvp, (at, t, v, model._lease.ticket, denoised, False))


def test_transforms(model, x):
    at, t = x.detach(), torch.linspace(0.5, 2, 6)
    batch = model.score(at, t)
    assert same(torch.vmap(model.score)(at, t), batch)
    assert same(torch.vmap(torch.func.grad(model.log_density))(at, t), batch)
    assert same(torch.vmap(model.score, in_dims=(1, None), out_dims=1)(at.T, T), model.score(at, T).T)
    assert torch.vmap(model.score)(at[:0], t[:0]).shape == (0, DIM)
    assert same(torch.vmap(model.score, in_dims=(None, 0))(at[0], t), model.score(at[:1].expand(6, DIM), t))
    one = at[0]
    hessian = torch.func.hessian(lambda x: model.log_density(x, T))(one)
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(jacobian(lambda x: model.score(x, T))(one), hessian, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(hessian, hessian.T, rtol=1e-12, atol=1e-12)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(at, torch.ones_like(at))
        found = forward_ad.unpack_dual(torch.ops.mnemo.evaluate(
            dual, torch.full((6,), T, dtype=torch.float64), model._lease.ticket, ["score"], False)[0]).tangent
    assert same(found, model.jvp(at, T, torch.ones_like(at)))


@pytest.mark.parametrize("backend, name", [*((AOT, name) for name in mnemo.torch._MATRICES), ("inductor", "log_density")])
def test_compile_is_eager(model, x, backend, name):
    def loss(model, x, t):
        return (getattr(model, name)(2 * x, t) ** 2).sum()

    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    for at in (x, torch.from_numpy(points(n=9)).requires_grad_(), x.detach().float().requires_grad_()):
        value, expected = compiled(model, at, T), loss(model, at, T)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(torch.autograd.grad(value, at), torch.autograd.grad(expected, at))


def test_one_graph_serves_two_scores(edm, x):
    torch._dynamo.utils.counters.clear()
    models = [Empirical(mnemo.Dataset(rows(seed)), edm) for seed in (0, 1)]
    compiled = torch.compile(lambda m, x: m.log_density(x, T).sum(), fullgraph=True)
    for turn in (0, 1, 0, 1):
        (grad,) = torch.autograd.grad(compiled(models[turn], x), x)
        assert same(grad, models[turn].score(x, T).detach())
        assert not same(grad, models[1 - turn].score(x, T).detach())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_part_of_a_compiled_module(model, x):
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.teacher = model
            self.linear = torch.nn.Linear(DIM, DIM, dtype=torch.float64)

        def forward(self, x, t):
            return self.linear(self.teacher(x, t))

    module = Wrapped()
    t = torch.linspace(0.5, 2, 6)
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend=AOT)(x, t), module(x, t))
    assert set(module.state_dict()) == {"linear.weight", "linear.bias"}
    assert [p.shape for p in module.teacher.parameters()] == []


def test_compiled_transforms_are_right_or_refused(model, x):
    """A tangent that the compiler loses would be a wrong result without a word."""
    at = x.detach()
    v = torch.ones_like(at)
    expected = model.jvp(at, T, v)
    score = lambda x: model.score(x, T)  # noqa: E731
    assert same(torch.compile(torch.vmap(score), fullgraph=True, backend=AOT)(at), score(at))
    assert same(torch.func.jvp(torch.compile(score, backend=AOT), (at,), (v,))[1], expected)
    inside = torch.compile(lambda x: torch.func.jvp(score, (x,), (v,))[1], backend=AOT)
    assert same(inside(at), expected)
    grad = torch.compile(torch.func.grad(lambda x: model.log_density(x, T).sum()), backend=AOT)
    assert same(grad(at), score(at))


# ----- Errors ---------------------------------------------------------------------------------------------------------


def test_bad_values_raise_as_in_the_library(model, x):
    compiled = torch.compile(lambda x, t: model.score(x, t), fullgraph=True, backend=AOT)
    for call in (model.score, compiled):
        with pytest.raises(mnemo.InvalidError, match="row 2, column 1 is NaN"):
            bad = x.detach().clone()
            bad[2, 1] = float("nan")
            call(bad, T)
        with pytest.raises(mnemo.InvalidError, match="must be in \\[0.0, 80.0\\]"):
            call(x, torch.tensor(100.0))
        assert same(call(x, T), model.score(x, T))


def test_bad_arguments(model, data, edm, x):
    for bad, kind, message in (
        (x.half(), mnemo.DtypeError, "x is torch.float16; it must be torch.float32 or torch.float64"),
        (x.int(), mnemo.DtypeError, "x is torch.int32"),
        (x[:, :2], mnemo.ShapeError, r"x has shape \(6, 2\); the last dimensions must be \(4,\)"),
        (torch.tensor(1.0), mnemo.ShapeError, "x has shape"),
        (points(), TypeError, "x: a tensor, not a ndarray"),
    ):
        with pytest.raises(kind, match=message):
            model.score(bad, T)
    with pytest.raises(mnemo.DtypeError, match="t is torch.complex64"):
        model.score(x, torch.tensor(1j))
    for shape in ((5,), (6, 1), (1, 6)):
        with pytest.raises(mnemo.ShapeError, match="t has shape"):
            model.score(x, torch.ones(shape))
    with pytest.raises(mnemo.InvalidError, match="outputs has 'scores'"):
        model.evaluate(x, T, ("scores",))
    with pytest.raises(TypeError, match="not the string"):
        model.evaluate(x, T, "score")
    with pytest.raises(mnemo.ShapeError, match="product must be the data's dimension, 4"):
        Empirical(data, edm, shape=(3, 2))
    with pytest.raises(mnemo.InvalidError, match="regularizer"):
        Empirical(data, edm, "ridge")
    with pytest.raises(TypeError):
        Empirical(mnemo.Score.custom(edm, DIM, lambda x, t: x), edm)
    with pytest.raises(Exception, match="x is torch.float16"):
        torch.compile(model, fullgraph=True, backend=AOT)(x.detach().half(), T)
    with pytest.raises(Exception, match="t is not differentiated"):
        torch.compile(model, fullgraph=True, backend=AOT)(x.detach(), torch.tensor(T, requires_grad=True))


def test_meta_and_fake_tensors(model):
    meta = torch.empty(6, DIM, device="meta")
    assert model.score(meta, torch.ones(6, device="meta")).shape == (6, DIM)
    with pytest.raises(mnemo.DtypeError, match="like x, on meta"):
        model.score(meta, torch.ones(6))
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as fake:
        index, score = model.evaluate(fake.from_tensor(torch.ones(2, DIM)), T, ("nearest_index", "score"))
        assert index.dtype == torch.int64 and index.shape == (2,) and score.shape == (2, DIM)


def says_it_is_on(tensor, device):
    """For machines without that device."""

    class Elsewhere(torch.Tensor):
        device = property(lambda self: torch.device(device))

    return tensor.detach().as_subclass(Elsewhere)


def test_other_devices_are_refused(model, x):
    with pytest.raises(mnemo.DeviceError, match=r"x is on xpu:0; .* x.cpu\(\)"):
        model.score(says_it_is_on(x, "xpu:0"), T)


def test_times_of_states_on_a_device_may_stay_with_the_host(x):
    there = says_it_is_on(x, "cuda:0")
    for t in (T, torch.tensor(T), torch.full((len(x),), T)):
        rows, times, batch = mnemo.torch._arguments(there, t, (DIM,), DIM)
        assert torch.Tensor.device.__get__(times).type == "cpu" and times.shape == (len(x),) == batch
    with pytest.raises(mnemo.DtypeError, match="t is torch.float32 on xpu:0; it must be real and, like x, on cuda:0"):
        mnemo.torch._arguments(there, says_it_is_on(torch.tensor(T), "xpu:0"), (DIM,), DIM)


# ----- Models of PyTorch's as scores ----------------------------------------------------------------------------------


class Gaussian(torch.nn.Module):
    """The denoised value of N(0, v I) at sigma = t."""

    def __init__(self, v):
        super().__init__()
        self.v = torch.nn.Parameter(torch.tensor(v))

    def forward(self, x, t):
        assert not torch.is_grad_enabled()
        assert x.shape[1:] == (2, 2) and t.shape == x.shape[:1] and x.dtype == t.dtype
        return (self.v / (self.v + t**2)).reshape(-1, 1, 1) * x


def gaussian(x, t):
    return 0.5 / (0.5 + t[:, None] ** 2) * x


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
def test_a_custom_score(edm, dtype):
    model = Gaussian(0.5).to(dtype or torch.float64)
    score = mnemo.torch.custom_score(edm, (2, 2), model, "x0", dtype=dtype)
    other = mnemo.Score.custom(edm, 4, gaussian, lambda x, t, v: gaussian(v, t), "x0")
    at, t = points(), np.linspace(0.1, 2, len(points()))
    close = {"rtol": 1e-12} if dtype != torch.float32 else {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(score.denoised(at, t), other.denoised(at, t), **close)
    np.testing.assert_allclose(score.jvp(at, 0.9, at[::-1]), other.jvp(at, 0.9, at[::-1]), **close)
    close = {"rtol": 1e-9} if dtype != torch.float32 else {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(score.sample(3, seed=5), other.sample(3, seed=5), **close)
    out = torch.empty(len(at), 4)
    assert score.score(torch.from_numpy(at).float(), 0.5, out=out) is out
    np.testing.assert_allclose(out, other.score(at.astype(np.float32), 0.5), rtol=1e-5)


def test_a_custom_scores_errors(edm):
    with pytest.raises(mnemo.ShapeError, match="eval returned"):
        mnemo.torch.custom_score(edm, (4,), lambda x, t: x[:1]).score(points(), 0.5)
    with pytest.raises(ZeroDivisionError):
        mnemo.torch.custom_score(edm, (4,), lambda x, t: 1 // 0).score(points(), 0.5)


def test_what_a_device_lends_is_taken_on_the_stream_of_the_call(edm, monkeypatch):
    """The memory is the host's, which PyTorch is told; that it is a device's is what decides how it is taken."""
    at, t, out = points(), np.linspace(0.1, 2, len(points())), np.zeros_like(points())
    streams, kept = [], []

    def tensor(array):
        cols = array.shape[1] if array.ndim == 2 else 1
        return ctypes.pointer(_abi.mnemo_tensor(array.ctypes.data, len(array), cols, 0, _abi.MNEMO_F64, 2, 0))

    class Hosts(_device.DeviceArray):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self._kind = 1

    def model(x, t):
        kept.append(x)
        return gaussian(x, t)

    monkeypatch.setattr(_device, "DeviceArray", Hosts)
    monkeypatch.setattr(_device, "wait", lambda stream: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: streams.append(stream) or contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda stream, device: (stream, device))
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: (0, device))
    monkeypatch.setattr(_score, "write", lambda name, prediction, to, stream: out.__setitem__(..., prediction))
    score = mnemo.torch.custom_score(edm, (4,), model, "x0")
    callbacks = list(_score._models.values())[-1]
    for stream in (48, None):
        _score._run_eval(callbacks.eval, tensor(at), tensor(t), tensor(out), stream)
        np.testing.assert_allclose(out, gaussian(at, t), rtol=1e-12)
    assert streams == [(48, torch.device("cuda", 0)), (0, torch.device("cuda", 0))]
    assert kept[0].data_ptr() != at.ctypes.data  # its own, to keep
    score.close()


# ----- Lifetimes ------------------------------------------------------------------------------------------------------


def count():
    gc.collect()
    return len(mnemo.torch._models)


def test_a_graph_keeps_its_score(data, edm, x):
    before = count()
    compiled = torch.compile(lambda m, x: m.log_density(x, T).sum(), fullgraph=True)
    expected = Empirical(data, edm).score(x, T).detach()
    for call in (lambda m, x: m.log_density(x, T).sum(), compiled):
        model = Empirical(data, edm)
        result = call(model, x)
        del model
        assert count() == before + 1
        assert same(torch.autograd.grad(result, x)[0], expected)
        del result
        assert count() == before


def test_copies_share_the_score(data, edm, x):
    before = count()
    model = torch.nn.Sequential(Empirical(data, edm))
    x = x.detach()
    expected = model[0].score(x, T)
    copies = copy.deepcopy(model), copy.copy(model)
    assert count() == before + 1
    del model
    gc.collect()
    for each in copies:
        assert same(each[0].score(x, T), expected)
    del copies, each
    assert count() == before


def test_pickles_are_refused(model):
    for module in (model, torch.nn.Sequential(model)):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(module)


def test_a_ticket_that_outlives_its_score_is_an_error(data, edm, x):
    model = Empirical(data, edm)
    copied = model._lease.ticket.clone()
    t = torch.full((6,), T, dtype=torch.float64)
    arguments = (x.detach(), t, copied, ["score"], False)
    assert same(torch.ops.mnemo.evaluate(*arguments)[0], model.score(x, T).detach())
    del model
    gc.collect()
    with pytest.raises(mnemo.InvalidError, match="is gone, or was made by another process"):
        torch.ops.mnemo.evaluate(*arguments)


def test_export(data, edm, x):
    before = count()
    at = x.detach()

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.teacher = Empirical(data, edm)

        def forward(self, x, t):
            return 2 * self.teacher.score(x, t)

    model, t = Twice(), torch.linspace(0.5, 2, 6)
    expected = model(at, t)
    exported = torch.export.export(model, (at, t))
    saved = io.BytesIO()
    torch.export.save(exported, saved)
    del model
    assert same(exported.module()(at, t), expected)
    del exported
    torch.compiler.reset()
    assert count() == before
    saved.seek(0)
    with pytest.raises(mnemo.InvalidError, match="is gone, or was made by another process"):
        torch.export.load(saved).module()(at, t)


def test_closed_sources_do_not_matter(x):
    data, process = mnemo.Dataset(rows()), mnemo.Process.ve_power(2, 1, 80)
    gone = weakref.ref(data)
    model = Empirical(data, process)
    expected = model.denoised(x, T)
    data.close()
    assert same(model.denoised(x, T), expected)
    del data
    gc.collect()
    assert gone() is None and same(model.denoised(x, T), expected)
    process.close()
    model.denoised(x, T).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_threads(model, x):
    expected = [model.score(x.detach(), 0.5 + k) for k in range(4)]
    wrong = []

    def work(k):
        for _ in range(20):
            at = x.detach().clone().requires_grad_()
            model.log_density(at, 0.5 + k).sum().backward()
            if not same(at.grad, expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert wrong == []
