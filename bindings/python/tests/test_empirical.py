# SPDX-License-Identifier: MIT OR Apache-2.0
import numpy as np
import pytest
import reference

import mnemo

ALL = mnemo.Evaluation._fields
BOUNDS = ("denoised_error_bound", "log_density_error_bound")


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-9), (np.float32, 2e-5)])
@pytest.mark.parametrize("t", [0.02, 0.3, 1.0])
def test_every_output(rows, process, dtype, tolerance, t):
    score = mnemo.Score.empirical(mnemo.Dataset(rows), process)
    x = (rows[:9] + 0.1).astype(dtype)
    m, sigma, _, _ = process.eval(t)
    expected = reference.empirical(rows, x.astype(np.float64), m, sigma)
    found = score.eval(x, t, ALL)
    assert found.score.dtype == found.denoised.dtype == dtype and found.nearest_index.dtype == np.int64
    assert found.entropy.dtype == np.float64 and found.entropy.shape == (9,)
    for name in sorted(set(ALL) - set(BOUNDS)):
        value = getattr(found, name)
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=tolerance * max(scale, 1), err_msg=name)
    # The formulas here have errors of their own.
    own = 1e-11 * max(np.abs(expected["log_density"]).max(), 1)
    error = np.linalg.norm(found.denoised - expected["denoised"], axis=1)
    assert (error <= found.denoised_error_bound + own).all() and (found.denoised_error_bound < tolerance * 10).all()
    error = np.abs(found.log_density - expected["log_density"])
    assert (error <= found.log_density_error_bound + own).all() and (found.log_density_error_bound < 1e-4).all()
    np.testing.assert_array_equal(score.eval(x, t, BOUNDS[0])[7], score.eval(x, t, ("denoised", BOUNDS[0]))[7])
    np.testing.assert_array_equal(score.score(x, t), found.score)
    np.testing.assert_array_equal(score.denoised(x, t), found.denoised)
    np.testing.assert_array_equal(score.log_density(x, t), found.log_density)


def test_what_is_not_asked_for_is_none(score, rows):
    found = score.eval(rows, 0.3, "entropy")
    assert [name for name, value in found._asdict().items() if value is not None] == ["entropy"]
    assert score.eval(rows, 0.3).score.shape == rows.shape and score.eval(rows, 0.3, ()).score is None


def test_a_time_per_row(score, rows, process):
    t = np.linspace(0.1, 1, 40)
    together = score.score(rows, t)
    for i in range(0, 40, 13):
        np.testing.assert_array_equal(together[i : i + 1], score.score(rows[i : i + 1], t[i]))
    np.testing.assert_array_equal(score.score(rows, t.astype(np.float32)), score.score(rows, t.astype(np.float32).astype(float)))
    np.testing.assert_array_equal(score.score(rows, 1), score.score(rows, np.ones(40, np.int32)))


CONSTANTS = [("tikhonov", 0.2), ("bayes_density", 2e-3), ("bayes_weight", 5.0)]


@pytest.mark.parametrize("regularizer, c", CONSTANTS)
def test_regularizers(rows, process, regularizer, c, rng):
    score = mnemo.Score.empirical(mnemo.Dataset(rows), process, regularizer, strength=c)
    x, v, t = rng.normal(size=(30, 5)) * np.linspace(0.1, 2, 30)[:, None], rng.normal(size=(30, 5)), 0.4
    m, sigma, _, _ = process.eval(t)
    expected = reference.regularized(rows, x, m, sigma, regularizer, c)
    plain = reference.empirical(rows, x, m, sigma)
    found = score.eval(x, t, ALL)
    np.testing.assert_allclose(found.score, expected, atol=1e-10)
    np.testing.assert_allclose(found.denoised, (x + sigma**2 * expected) / m, atol=1e-9)
    np.testing.assert_allclose(found.log_density, plain["log_density"], atol=1e-9)
    if regularizer != "tikhonov":
        assert 3 < (np.abs(expected - plain["score"]).max(1) > 1e-12).sum() < 27  # both sides of the minimum
        logs = mnemo.Score.empirical(mnemo.Dataset(rows), process, regularizer, log_strength=np.log(c))
        np.testing.assert_allclose(logs.score(x, t), expected, atol=1e-10)
    by_differences = reference.derivative(lambda x: reference.regularized(rows, x, m, sigma, regularizer, c), x, v)
    np.testing.assert_allclose(score.jvp(x, t, v), by_differences, atol=1e-6 * np.abs(by_differences).max())


def test_jvp(score, rows, process, rng):
    v, t = rng.normal(size=rows.shape), 0.25
    m, sigma, _, _ = process.eval(t)
    expected = reference.derivative(lambda x: reference.empirical(rows, x, m, sigma)["score"], rows, v)
    np.testing.assert_allclose(score.jvp(rows, t, v), expected, atol=1e-6 * np.abs(expected).max())
    out = np.zeros((40, 5), np.float32)
    assert score.jvp(rows.astype(np.float32), t, v.astype(np.float32), out=out) is out
    np.testing.assert_allclose(out, expected, atol=1e-4 * np.abs(expected).max())


def test_the_divergence_is_the_trace_of_the_jvp(score, rows):
    trace = sum(score.jvp(rows, 0.3, np.tile(e, (40, 1)))[:, i] for i, e in enumerate(np.eye(5)))
    np.testing.assert_allclose(score.eval(rows, 0.3, "divergence").divergence, trace, rtol=1e-9, atol=1e-9)


def test_into_the_callers_memory(score, rows):
    out = {name: np.full((40, 5) if name in ("score", "denoised") else 40, 7, float) for name in ALL}
    out["nearest_index"] = np.full(40, 7)
    out["entropy"] = np.full(40, 7, np.float32)
    found = score.eval(rows, 0.3, out=out)
    expected = score.eval(rows, 0.3, ALL)
    for name in ALL:
        assert getattr(found, name) is out[name]
        np.testing.assert_allclose(out[name], getattr(expected, name), rtol=1e-6 if name == "entropy" else 0)
    x = rows.copy()
    assert score.score(x, 0.3, out=x) is x  # an input may be the same memory as an output
    np.testing.assert_array_equal(x, expected.score)


def test_tolerance_leaves_out_little(rows, process):
    data = mnemo.Dataset(rows)
    exact, rough = (mnemo.Score.empirical(data, process, tolerance=t).score(rows, 0.3) for t in (0, 1e-3))
    assert np.abs(exact - rough).max() < 0.1


def test_empty_batches(score):
    found = score.eval(np.empty((0, 5)), 0.3, ALL)
    assert found.score.shape == (0, 5) and found.entropy.shape == (0,)
    assert score.jvp(np.empty((0, 5)), 0.3, np.empty((0, 5))).shape == (0, 5)


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda s, x: s.score(x[:, :4], 0.3), mnemo.ShapeError, "4 columns"),
        (lambda s, x: s.score(x[0], 0.3), mnemo.ShapeError, "x: 1 axes"),
        (lambda s, x: s.score(x, [0.3, 0.4]), mnemo.ShapeError, "t: 2 x 1"),
        (lambda s, x: s.score(x, [[0.3]]), mnemo.ShapeError, "t: 2 axes"),
        (lambda s, x: s.score(x, 2.0), mnemo.InvalidError, "2.0"),
        (lambda s, x: s.score(x, 0), mnemo.InvalidError, "sigma"),
        (lambda s, x: s.score(x, "0.3"), mnemo.DtypeError, "t"),
        (lambda s, x: s.score(x.astype(int), 0.3), mnemo.DtypeError, "x: .*I64"),
        (lambda s, x: s.score(x.astype(np.float16), 0.3), mnemo.DtypeError, "x: .*F16"),
        (lambda s, x: s.score(x.astype(complex), 0.3), mnemo.DtypeError, "x: .*complex128"),
        (lambda s, x: s.score(np.where(x == x[3, 2], np.nan, x), 0.3), mnemo.InvalidError, "row 3, column 2"),
        (lambda s, x: s.eval(x, 0.3, ("score", "nothing")), mnemo.InvalidError, "nothing"),
        (lambda s, x: s.eval(x, 0.3, out={"nothing": x}), mnemo.InvalidError, "nothing"),
        (lambda s, x: s.score(x, 0.3, out=np.zeros((40, 4))), mnemo.ShapeError, "outputs.score"),
        (lambda s, x: s.score(x, 0.3, out=np.zeros((40, 5), "f4")), mnemo.DtypeError, "outputs.score"),
        (lambda s, x: s.score(x, 0.3, out=np.zeros((5, 40)).T), mnemo.ShapeError, "not adjacent"),
        (lambda s, x: s.score(x, 0.3, out=np.zeros((40, 5), ">f8")), mnemo.InvalidError, "byte order"),
        (lambda s, x: s.score(x, 0.3, out=np.broadcast_to(0.0, (40, 5))), mnemo.InvalidError, "read-only"),
        (lambda s, x: s.score(x, 0.3, out=[[0.0] * 5] * 40), TypeError, "list"),
        (lambda s, x: s.jvp(x, 0.3, x[:3]), mnemo.ShapeError, "v: 3 x 5"),
        (lambda s, x: s.jvp(x, 0.3, x.astype("f4")), mnemo.DtypeError, "v: "),
        (lambda s, x: s.eval(x, 0.3, cancel=3), TypeError, "cancel"),
        (lambda s, x: s.eval(x, 0.3, progress=3), TypeError, "progress"),
    ],
)
def test_arguments_that_are_refused(score, rows, call, kind, message):
    with pytest.raises(kind, match=message):
        call(score, rows)
    assert np.isfinite(score.score(rows, 0.3)).all()  # and the score is usable afterwards


def test_on_failure_outputs_are_untouched(score, rows):
    out = np.full((40, 5), 7.0)
    with pytest.raises(mnemo.InvalidError):
        score.score(np.where(rows == rows[39, 4], np.inf, rows), 0.3, out=out)
    assert (out == 7).all()


def test_beyond_the_range_of_float32(process):
    score = mnemo.Score.empirical(mnemo.Dataset([[0.0], [1e30]]), process)
    with pytest.raises(mnemo.InvalidError, match="beyond the range of F32"):
        score.score(np.full((1, 1), 3e38, np.float32), 1e-4)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(regularizer="ridge"), "ridge.*tikhonov"),
        (dict(regularizer="tikhonov"), "strength is missing"),
        (dict(regularizer="tikhonov", strength=-1), "strength is -1"),
        (dict(regularizer="bayes_weight", strength=0), "strength is 0"),
        (dict(regularizer="bayes_density", log_strength=float("inf")), "log_strength"),
        (dict(tolerance=1.0), "tolerance"),
        (dict(label=1), "label"),
        (dict(label=1 << 63), "label is 9223372036854775808"),
    ],
)
def test_options_that_are_refused(rows, process, options, message):
    with pytest.raises(mnemo.InvalidError, match=message):
        mnemo.Score.empirical(mnemo.Dataset(rows), process, **options)


def test_types_that_are_refused(rows, process):
    data = mnemo.Dataset(rows)
    for make in (
        lambda: mnemo.Score.empirical(rows, process),
        lambda: mnemo.Score.empirical(data, "vp"),
        lambda: mnemo.Score.empirical(data, process, "tikhonov", strength="much"),
        lambda: mnemo.Score.empirical(data, process, label="seven"),
        lambda: mnemo.Score(),
    ):
        with pytest.raises(TypeError):
            make()
