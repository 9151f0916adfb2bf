# SPDX-License-Identifier: MIT OR Apache-2.0
"""Models of the caller's own: data N(mu, s0^2 I) under a VP process, whose every prediction is known."""

import gc
import weakref

import numpy as np
import pytest

import mnemo

MU, S0 = np.array([1.0, -0.5, 2.0]), 0.6
PREDICTIONS = ("score", "eps", "x0", "v", "flow")


def predict(prediction, x, s, m, sigma):
    """The prediction is linear in x and s."""
    eps, x0 = -sigma * s, (x + sigma**2 * s) / m
    return {"score": s, "eps": eps, "x0": x0, "v": m * eps - sigma * x0, "flow": eps - x0}[prediction]


def gaussian(process, x, t, mu=MU):
    m, sigma, _, _ = (np.asarray(value)[..., None] for value in process.eval(t))
    return (m * mu - x) / (m**2 * S0**2 + sigma**2), m, sigma


def model(process, prediction):
    def eval(x, t):
        return predict(prediction, x, *gaussian(process, x, t))

    def jvp(x, t, v):
        return predict(prediction, v, *gaussian(process, v, t, mu=0))

    return mnemo.Score.custom(process, 3, eval, jvp, prediction)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_predictions(process, rng, prediction, dtype, tolerance):
    score = model(process, prediction)
    x, v = (rng.normal(size=(4, 3)).astype(dtype) for _ in range(2))
    t = np.array([0.1, 0.3, 0.6, 0.9])
    s, m, sigma = gaussian(process, x.astype(float), t)
    found = score.eval(x, t, ("score", "denoised"))
    assert found.score.dtype == found.denoised.dtype == dtype
    np.testing.assert_allclose(found.score, s, atol=tolerance * 10)
    np.testing.assert_allclose(found.denoised, (x + sigma**2 * s) / m, atol=tolerance / m.min() * 10)
    along, _, _ = gaussian(process, v.astype(float), t, mu=0)
    np.testing.assert_allclose(score.jvp(x, t, v), along, atol=tolerance * 10)


def test_what_the_callback_is_given(process, rng):
    seen = []

    def eval(x, t):
        seen.append((x, t))
        x += 1  # its own to change
        return np.zeros_like(x)

    score = mnemo.Score.custom(process, 3, eval)
    for dtype in (np.float32, np.float64):
        x = rng.normal(size=(4, 3)).astype(dtype)
        score.score(x, 0.5)
        given, t = seen.pop()
        assert given.dtype == dtype and t.dtype == np.float64
        np.testing.assert_array_equal(given, x + dtype(1))  # and to keep
        np.testing.assert_array_equal(t, np.full(4, 0.5))
    score.eval(x, 0.5, ("score", "denoised"))
    assert len(seen) == 1  # once for both outputs
    score.score(np.empty((0, 3)), 0.5)
    assert len(seen) == 1


@pytest.mark.parametrize("returned", [np.float16, np.float32, np.float64, list])
def test_what_the_callback_may_return(process, returned):
    score = mnemo.Score.custom(process, 2, lambda x, t: x.tolist() if returned is list else x.astype(returned))
    x = np.array([[1.5, -2.0]])
    np.testing.assert_array_equal(score.score(x, 0.5), x)
    np.testing.assert_array_equal(score.score(x.astype(np.float32), 0.5), x)


@pytest.mark.parametrize(
    "returned, kind, message",
    [
        (lambda x: x[:1], mnemo.ShapeError, r"eval returned an array \(1, 2\); it must be \(3, 2\)"),
        (lambda x: x.sum(), mnemo.ShapeError, r"eval returned an array \(\)"),
        (lambda x: None, mnemo.DtypeError, "eval returned"),
        (lambda x: x.astype(complex), mnemo.DtypeError, "complex"),
        (lambda x: x / 0, mnemo.CallbackError, "row 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_the_callback_may_not_return(process, returned, kind, message):
    score = mnemo.Score.custom(process, 2, lambda x, t: returned(x))
    with pytest.raises(kind, match=message):
        score.score(np.ones((3, 2), np.float32), 0.5)


class Mine(Exception):
    pass


@pytest.mark.parametrize("kind", [Mine, KeyboardInterrupt, SystemExit, mnemo.InvalidError, StopIteration])
def test_what_a_callback_raises_is_raised(process, kind):
    broken = True
    error = kind("x", 1)

    def eval(x, t):
        if broken:
            raise error
        return -x

    score = mnemo.Score.custom(process, 2, eval, lambda x, t, v: eval(v, t))
    for call in (
        lambda: score.score(np.ones((3, 2)), 0.5),
        lambda: score.jvp(np.ones((3, 2)), 0.5, np.ones((3, 2))),
        lambda: score.sample(3),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert caught.value is error
        assert any(entry.name == "eval" for entry in caught.traceback)
    broken = False
    np.testing.assert_array_equal(score.score(np.ones((3, 2)), 0.5), -np.ones((3, 2)))


def test_a_callback_may_use_the_package(process, rows):
    data = mnemo.Dataset(rows)
    inner = mnemo.Score.empirical(data, process)
    outer = mnemo.Score.custom(process, 5, lambda x, t: inner.score(x, t))
    np.testing.assert_array_equal(outer.score(rows, 0.5), inner.score(rows, 0.5))

    def failing(x, t):
        with pytest.raises(mnemo.ShapeError):
            inner.score(x[:, :1], t)
        return inner.score(x[:, :2], t)

    with pytest.raises(mnemo.ShapeError, match="2 columns"):
        mnemo.Score.custom(process, 5, failing).score(rows, 0.5)


def test_a_callback_may_close_its_score(process):
    def eval(x, t):
        score.close()
        return -x

    score = mnemo.Score.custom(process, 2, eval)
    np.testing.assert_array_equal(score.score(np.ones((3, 2)), 0.5), -np.ones((3, 2)))
    with pytest.raises(mnemo.InvalidError, match="closed"):
        score.score(np.ones((3, 2)), 0.5)


def test_callbacks_are_let_go():
    class Model:
        def __call__(self, x, t):
            return -x

    process, function = mnemo.Process.flow(), Model()
    watch = weakref.ref(function)
    score = mnemo.Score.custom(process, 2, function)
    with pytest.raises(mnemo.InvalidError):
        mnemo.Score.custom(process, 0, function)  # is not kept by what was not made
    del function
    gc.collect()
    assert watch() is not None
    score.close()
    gc.collect()
    assert watch() is None


def test_what_a_custom_score_does_not_have(process):
    score = mnemo.Score.custom(process, 2, lambda x, t: -x)
    for call in (
        lambda: score.log_density(np.ones((3, 2)), 0.5),
        lambda: score.eval(np.ones((3, 2)), 0.5, ("score", "entropy")),
        lambda: score.jvp(np.ones((3, 2)), 0.5, np.ones((3, 2))),
    ):
        with pytest.raises(NotImplementedError) as caught:
            call()
        assert caught.value.name == "MNEMO_E_UNSUPPORTED"


def test_arguments_that_are_refused(process):
    def f(x, t):
        return x

    for make, kind, message in (
        (lambda: mnemo.Score.custom(process, 0, f), mnemo.InvalidError, "dim"),
        (lambda: mnemo.Score.custom(process, 2, f, prediction="noise"), mnemo.InvalidError, "'eps'"),
        (lambda: mnemo.Score.custom(process, 2.5, f), TypeError, "dim"),
        (lambda: mnemo.Score.custom(process, 2, 3), TypeError, "eval"),
        (lambda: mnemo.Score.custom(process, 2, f, 3), TypeError, "jvp"),
        (lambda: mnemo.Score.custom(None, 2, f), TypeError, "process"),
        (lambda: mnemo.Score.custom(process, 2, f, context=process), TypeError, "context"),
    ):
        with pytest.raises(kind, match=message):
            make()
