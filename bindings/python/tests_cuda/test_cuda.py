# SPDX-License-Identifier: MIT OR Apache-2.0
"""CUDA contexts: the arrays of the host and of the device, callbacks, streams. On device 0, or a stand-in for it."""

import numpy as np
import pytest
from memory import Matrix, lent, new_stream

import mnemo

PROCESS = mnemo.Process.vp_linear(0.1, 20)
# Both compute in float64, in another order of sums.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return mnemo.Context(device="cuda:0", kernel_cache_dir=tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_the_context(context):
    assert context.warm_up() is None
    described = context.describe()
    assert described["backend"] == "cuda" and described["device_id"] == 0
    assert described["kernels"]["not_loaded"] == 0
    with pytest.raises(mnemo.DeviceError, match="4096"):
        mnemo.Context(device="cuda:4096")


def test_data_from_either_memory(context, rng):
    rows, labels = rng.normal(size=(40, 2, 3)).astype(np.float32), np.arange(40) % 3
    for given in (rows, Matrix(rows)):
        data = mnemo.Dataset(given, Matrix(labels), context=context)
        assert (data.rows, data.dim, data.labels, data.dtype) == (40, 6, 3, "float32")
        index, out = np.array([3, 0, 39]), Matrix(np.zeros((3, 6)))
        np.testing.assert_array_equal(data.gather(index), rows.reshape(40, 6)[index])
        assert data.gather(Matrix(index), out=out) is out
        np.testing.assert_array_equal(out.numpy(), rows.reshape(40, 6)[index])


def gaussian(x, t):
    """The denoised value of N(0, I / 2) at sigma = t."""
    return 0.5 / (0.5 + t[:, None] ** 2) * x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_is_lent_device_memory(context, rng, dtype):
    edm, seen = mnemo.Process.ve_power(2, 1, 80), []

    def model(x, t):
        seen.append(x)
        assert (x.dtype, t.dtype, x.shape[0]) == (np.dtype(dtype).name, "float64", len(t))
        return Matrix(gaussian(lent(x), lent(t)).astype(dtype))

    def along(x, t, v):
        return Matrix(gaussian(lent(v), lent(t)).astype(dtype))

    on_device = mnemo.Score.custom(edm, 5, model, along, "x0", context=context)
    on_host = mnemo.Score.custom(edm, 5, gaussian, lambda x, t, v: gaussian(v, t), "x0")
    x, v, t = rng.normal(size=(6, 5)).astype(dtype), rng.normal(size=(6, 5)).astype(dtype), np.linspace(0.1, 1, 6)
    expected, out = on_host.eval(x, t, ("score", "denoised")), Matrix(np.zeros((6, 5), dtype))
    loose = {"rtol": 1e-6, "atol": 1e-6} if dtype == np.float32 else CLOSE
    found = on_device.eval(x, t, ("score", "denoised"))
    np.testing.assert_allclose(found.score, expected.score, **loose)
    np.testing.assert_allclose(found.denoised, expected.denoised, **loose)
    for stream in (None, new_stream()):
        given = Matrix(x)
        on_device.eval(given, t, (), out={"score": out}, stream=stream)
        np.testing.assert_allclose(out.numpy(), expected.score, **loose)
        assert given.asked == [stream or 1] and seen[-1].stream == (stream or 0)
    on_device.jvp(Matrix(x), t, Matrix(v), out=out)
    np.testing.assert_allclose(out.numpy(), on_host.jvp(x, t, v), **loose)
    for array in seen:
        with pytest.raises(BufferError, match="has returned"):
            array.__dlpack__()


def test_a_models_errors(context):
    edm = mnemo.Process.ve_power(2, 1, 80)
    x = np.zeros((6, 5))
    for returned, kind, message in (
        (lambda x: np.zeros((6, 5)), TypeError, "in the host's memory"),
        (lambda x: Matrix(np.zeros((5, 5))), mnemo.ShapeError, r"\(5, 5\)"),
        (lambda x: Matrix(np.zeros((6, 5), np.float32)), mnemo.DtypeError, "float32"),
        (lambda x: 1 // 0, ZeroDivisionError, "zero"),
    ):
        model = mnemo.Score.custom(edm, 5, lambda x, t: returned(x), context=context)
        with pytest.raises(kind, match=message):
            model.score(x, 0.5)


def test_samples_in_place_and_observed(context, rng):
    edm = mnemo.Process.ve_power(2, 1, 80)
    model = mnemo.Score.custom(edm, 5, lambda x, t: Matrix(gaussian(lent(x), lent(t))), prediction="x0", context=context)
    host = mnemo.Score.custom(edm, 5, gaussian, prediction="x0")
    x, states, kept = rng.normal(size=(6, 5)) * 80, [], []

    def observer(step, t, x):
        kept.append(x)
        states.append(lent(x) if isinstance(x, mnemo.DeviceArray) else x)

    expected = host.sample(x, steps=4)
    at = Matrix(x)
    assert model.sample(at, steps=4, out=at, observer=observer) is at
    np.testing.assert_allclose(at.numpy(), expected, **CLOSE)
    np.testing.assert_array_equal(states[0], x)
    np.testing.assert_allclose(states[-1], expected, **CLOSE)
    assert all(isinstance(x, mnemo.DeviceArray) for x in kept) and len(kept) == 5
    with pytest.raises(BufferError, match="has returned"):
        kept[0].__dlpack__()
    np.testing.assert_allclose(model.sample(x, steps=4, observer=observer), expected, **CLOSE)
    assert isinstance(kept[-1], np.ndarray)
    drawn = Matrix(np.zeros((6, 5)))
    model.sample(6, steps=4, seed=3, out=drawn, stream=new_stream())
    np.testing.assert_allclose(drawn.numpy(), host.sample(6, steps=4, seed=3), **CLOSE)
    with pytest.raises(TypeError, match="x: on another device"):
        model.sample(Matrix(x))


def test_numbers_that_are_none(context):
    model = mnemo.Score.custom(PROCESS, 5, lambda x, t: Matrix(lent(x)), context=context)
    x = np.zeros((6, 5))
    x[2, 1] = np.nan
    for given, options in ((x, {}), (Matrix(x), {"check": True})):
        with pytest.raises(mnemo.InvalidError, match="x: row 2"):
            model.eval(given, 0.5, **options)


def test_another_device_is_refused(context):
    class Elsewhere(Matrix):
        def __dlpack_device__(self):
            return 2, 1

        def __dlpack__(self, **options):
            capsule = super().__dlpack__(**options)
            self._managed.tensor.device_id = 1
            return capsule

    score = mnemo.Score.custom(PROCESS, 5, lambda x, t: x, context=context)
    with pytest.raises(mnemo.DeviceError, match="x: on CUDA device 1, but its context computes on device 0"):
        score.score(Elsewhere(np.zeros((6, 5))), 0.5)


def test_the_empirical_score(context, rng):
    rows, x = rng.normal(size=(40, 5)), rng.normal(size=(6, 5))
    score = mnemo.Score.empirical(mnemo.Dataset(rows, context=context), PROCESS)
    host = mnemo.Score.empirical(mnemo.Dataset(rows), PROCESS)
    names = ("score", "denoised", "log_density", "divergence", "entropy", "nearest_index", "nearest_distance")
    expected, found = host.eval(x, 0.5, names), score.eval(x, 0.5, names)
    out = {name: Matrix(np.zeros_like(getattr(expected, name))) for name in names}
    score.eval(Matrix(x), Matrix(np.full(6, 0.5)), (), out=out)
    for name in names:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), **CLOSE)
        np.testing.assert_allclose(out[name].numpy(), getattr(expected, name), **CLOSE)


def test_nearest_rows(context, rng):
    rows, x = rng.normal(size=(40, 5)), rng.normal(size=(6, 5))
    data, host = mnemo.Dataset(rows, context=context), mnemo.Dataset(rows)
    expected = mnemo.nearest(host, x, 3)
    for given in (x, Matrix(x)):
        found = mnemo.nearest(data, given, 3)
        np.testing.assert_array_equal(found.index, expected.index)
        np.testing.assert_allclose(found.distance, expected.distance, **CLOSE)
        assert mnemo.memorization(data, given, 0.5).copied == mnemo.memorization(host, x, 0.5).copied
