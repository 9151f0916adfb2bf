# SPDX-License-Identifier: MIT OR Apache-2.0
"""mnemo.jax: values, derivatives, transforms, errors and lifetimes."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import copy
import gc
import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import DIM, PROCESSES, REGULARIZERS, jacobian_of_denoised, points, rows
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads

import mnemo
import mnemo.jax
from mnemo.jax import Empirical

T = 0.8
FAILED = (jax.errors.JaxRuntimeError, ValueError)


@pytest.fixture(params=[True, False], ids=["x64", "x32"])
def x64(request):
    with jax.enable_x64(request.param):
        yield request.param


@pytest.fixture
def wide():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def model(data, edm):
    return Empirical(data, edm)


@pytest.fixture
def x(wide):
    return jnp.asarray(points())


def same(a, b):
    """Bit for bit."""
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


# ----- Values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_every_output_is_that_of_the_library(data, edm, regularizer, dtype, wide):
    options = REGULARIZERS[regularizer]
    at = points().astype(dtype)
    expected = mnemo.Score.empirical(data, edm, regularizer, **options).eval(at, T, mnemo.jax._OUTPUTS)
    model = Empirical(data, edm, regularizer, **options)
    for evaluate in (model.evaluate, jax.jit(model.evaluate, static_argnums=2)):
        found = evaluate(at, T, mnemo.jax._OUTPUTS)
        for name, e, f in zip(mnemo.jax._OUTPUTS, expected, found):
            assert f.dtype == (np.int64 if name == "nearest_index" else dtype), name
            assert np.array_equal(e.astype(f.dtype), f), name


def test_without_64_bit_types(data, edm):
    model = Empirical(data, edm)
    at = points().astype(np.float32)
    expected = mnemo.Score.empirical(data, edm).eval(at, np.float32(T), mnemo.jax._OUTPUTS)
    with jax.enable_x64(False):
        found = model.evaluate(points(), T, mnemo.jax._OUTPUTS)
    for name, e, f in zip(mnemo.jax._OUTPUTS, expected, found):
        assert f.dtype == (np.int32 if name == "nearest_index" else np.float32), name
        np.testing.assert_allclose(f, e, rtol=2e-6, atol=1e-6, err_msg=name)


def test_methods_are_the_outputs_in_any_order(model, x):
    density, score, again = model.evaluate(x, T, ("log_density", "score", "log_density"))
    assert same(score, model.score(x, T))
    assert same(density, model.log_density(x, T)) and same(density, again)
    assert not same(model.denoised(x, T), score)


def test_options_reach_the_score(data, edm, x):
    expected = mnemo.Score.empirical(data, edm, label=1).score(np.asarray(x), T)
    assert np.array_equal(Empirical(data, edm, label=1).score(x, T), expected)


def test_any_batch_and_sample_shape(data, edm, model, x64):
    flat = jnp.asarray(points(n=6))
    images = Empirical(data, edm, shape=(1, 2, 2))
    t = jnp.linspace(0.5, 3, 6)
    expected = model.score(flat, t)
    assert same(images.score(flat.reshape(6, 1, 2, 2), t), expected.reshape(6, 1, 2, 2))
    assert same(images.score(flat.reshape(2, 3, 1, 2, 2), t.reshape(2, 3)), expected.reshape(2, 3, 1, 2, 2))
    assert images.log_density(flat.reshape(2, 3, 1, 2, 2), T).shape == (2, 3)
    assert same(images.score(flat[0].reshape(1, 2, 2), t[0]), expected[0].reshape(1, 2, 2))
    assert model.score(flat[:0], T).shape == (0, DIM) and model.log_density(flat[:0], T).shape == (0,)


def test_times_broadcast(model, x):
    each = model.log_density(x.reshape(2, 3, DIM), jnp.asarray([[1.0], [2.0]]))
    assert same(each[0], model.log_density(x[:3], 1)) and same(each[1], model.log_density(x[3:], 2.0))


# ----- Derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["score", "denoised", "log_density"])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("process", PROCESSES)
def test_derivatives_by_differences(data, process, regularizer, name, wide):
    the, t = PROCESSES[process]
    model = Empirical(data, the, regularizer, **REGULARIZERS[regularizer])
    check_grads(lambda x: getattr(model, name)(x, t), (points(n=3),), order=1, modes=("fwd", "rev"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_gradient_of_log_density_is_the_mixtures_score(data, edm, regularizer, x64):
    model = Empirical(data, edm, regularizer, label=2, **REGULARIZERS[regularizer])
    expected = Empirical(data, edm, label=2).score(points(), T)
    grad = jax.grad(lambda x: model.log_density(x, T).sum())
    assert same(grad(jnp.asarray(points())), expected)
    assert same(jax.jit(grad)(jnp.asarray(points())), expected)


def test_forward_and_reverse_under_jit_and_vmap(model, x):
    one = x[0]
    hessian = jax.jit(jax.hessian(lambda x: model.log_density(x, T)))(one)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12, atol=1e-12)
    for jacobian in (jax.jacfwd, jax.jacrev):
        of_score = jax.jit(jacobian(lambda x: model.score(x, T)))
        np.testing.assert_allclose(of_score(one), hessian, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(jax.vmap(of_score)(x)[0], hessian, rtol=1e-12, atol=1e-12)
    with np.testing.assert_raises(AssertionError):
        np.testing.assert_allclose(of_score(x[1]), hessian, rtol=1e-3)
    check_grads(lambda x: model.log_density(x, T), (x,), order=2, modes=("fwd", "rev"))
    weighted = jax.grad(lambda x: (model.score(x, T) * points(seed=5)).sum())(x)
    assert same(weighted, model.jvp(x, T, points(seed=5)))
    linear = jax.linearize(lambda x: model.score(x, T), x)[1]
    assert same(linear(x), model.jvp(x, T, x))
    assert same(jax.grad(jax.checkpoint(lambda x: model.log_density(x, T).sum()))(x), model.score(x, T))


def test_jvp_method(model, x):
    v = jnp.asarray(points(seed=9))
    assert same(model.jvp(x, T, v), jax.jvp(lambda x: model.score(x, T), (x,), (v,))[1])
    check_grads(lambda v: model.jvp(x, T, v), (v,), order=2, modes=("fwd", "rev"))
    transposed = jax.linear_transpose(lambda v: model.jvp(x, T, v), v)
    assert same(transposed(v)[0], model.jvp(x, T, v))
    with pytest.raises(NotImplementedError, match="first derivative only"):
        jax.grad(lambda x: model.jvp(x, T, v).sum())(x)
    with pytest.raises(mnemo.ShapeError, match="v has shape"):
        model.jvp(x, T, v[:2])
    with pytest.raises(mnemo.DtypeError, match="v is float32"):
        model.jvp(x, T, v.astype(np.float32))


def test_what_has_no_derivative_says_so(model, x):
    for order in (jax.jacfwd, jax.jacrev):
        with pytest.raises(NotImplementedError, match="first derivative only"):
            jax.jit(order(jax.jacfwd(lambda x: model.denoised(x, T))))(x[0])
    for name in ("entropy", "divergence", "nearest_distance"):
        def of(x, name=name):
            return model.evaluate(x, T, (name,))[0].sum()

        with pytest.raises(NotImplementedError, match=f"{name} has no derivative"):
            jax.grad(of)(x)
        assert np.isfinite(of(x))
        assert (jax.grad(lambda x: of(jax.lax.stop_gradient(x)) + x.sum())(x) == 1).all()
    (value, index), tangents = jax.jvp(lambda x: model.evaluate(x, T, ("score", "nearest_index")), (x,), (x,))
    assert index.dtype == np.int64 and tangents[1].dtype == jax.dtypes.float0


def test_time_is_not_differentiated(model, x):
    for derive in (jax.grad, jax.jacfwd, lambda f: jax.jit(jax.grad(f))):
        with pytest.raises(TypeError, match="t is not differentiated"):
            derive(lambda t: model.log_density(x, t).sum())(T)
        with pytest.raises(TypeError, match="t is not differentiated"):
            derive(lambda t: model.jvp(x, t, x).sum())(T)
    both = jax.grad(lambda x, t: model.log_density(x, jax.lax.stop_gradient(t)).sum(), argnums=(0, 1))(x, T)
    assert same(both[0], model.score(x, T)) and both[1] == 0


def test_gradient_in_float32_near_a_training_row(edm):
    row = rows(n=5)
    row[1] = row[0] + 0.04
    x, sigma = row[0] + 0.02, 0.05
    expected = jacobian_of_denoised(row, x, sigma)
    model = Empirical(mnemo.Dataset(row), edm)
    with jax.enable_x64(False):
        found = jax.jacrev(lambda x: model.denoised(x, sigma))(jnp.asarray(x))
        alone = jax.jacrev(lambda x: model.denoised(x, 1e-3))(jnp.asarray(row[3]))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(alone).max() < 1e-6  # sigma^2 J + 1, both near 1, would leave 1e-7 of them in float32


def test_denoised_at_the_end_of_the_flow(data, x):
    model = Empirical(data, mnemo.Process.flow())
    np.testing.assert_allclose(model.denoised(x, 1.0)[0], rows().mean(0), rtol=1e-12)
    assert (jax.grad(lambda x: model.denoised(x, 1.0).sum())(x) == 0).all()
    # The value itself is dead code here, and is not asked for.
    regularized = Empirical(data, mnemo.Process.flow(), "tikhonov", strength=0.1)
    with pytest.raises(Exception, match="does not exist"):
        jax.jit(jax.jacfwd(lambda x: regularized.denoised(x, 1.0).sum()))(x).block_until_ready()


# ----- Transforms -----------------------------------------------------------------------------------------------------


def test_a_batch_by_vmap_is_a_batch(model, x64):
    x, t = jnp.asarray(points()), jnp.linspace(0.5, 2, 6)
    batch = model.score(x, t)
    assert same(jax.vmap(model.score)(x, t), batch)
    assert same(jax.jit(jax.vmap(jax.grad(model.log_density)))(x, t), batch)
    assert same(jax.vmap(lambda x: model.score(x, T), in_axes=1, out_axes=1)(x.T), model.score(x, T).T)
    assert same(jax.vmap(model.score, (None, 0))(x[0], t), model.score(jnp.broadcast_to(x[0], x.shape), t))
    nested = jax.vmap(jax.vmap(model.log_density, (0, None)), (None, 0))(x, t)
    assert same(nested, model.log_density(jnp.broadcast_to(x, (6, *x.shape)), t[:, None]))
    assert same(jax.vmap(model.jvp, (0, 0, None))(x, t, x[0]), model.jvp(x, t, jnp.broadcast_to(x[0], x.shape)))


def test_control_flow(model, x):
    def step(state, t):
        return state + 0.1 * t * model.score(state, t), None

    times = jnp.linspace(2, 0.5, 8)
    expected = x
    for t in times:
        expected = step(expected, t)[0]
    found = jax.jit(lambda x: jax.lax.scan(step, x, times)[0])(x)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    gradient = jax.grad(lambda x: jax.lax.scan(step, x, times)[0].sum())(x)
    assert np.isfinite(gradient).all()
    with jax.disable_jit():
        assert same(model.score(x, T), jax.jit(model.score)(x, T))


def test_two_scores_in_one_program(edm, x):
    models = [Empirical(mnemo.Dataset(rows(seed)), edm) for seed in (0, 1)]
    both = jax.jit(lambda x: [m.score(x, T) for m in models])(x)
    for model, found, seed in zip(models, both, (0, 1)):
        assert np.array_equal(found, mnemo.Score.empirical(mnemo.Dataset(rows(seed)), edm).score(np.asarray(x), T))
        assert same(found, model.score(x, T))
    assert not same(*both)
    chosen = jax.jit(lambda model, x: model.log_density(x, T), static_argnums=0)
    for turn in (0, 1, 0, 1):
        assert same(chosen(models[turn], x), models[turn].log_density(x, T))


def test_two_devices(model, x):
    expected = model.score(x, T)
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    split = PartitionSpec("batch")
    over = jax.device_put(x, NamedSharding(mesh, split))
    assert len(over.devices()) == 2
    grad = jax.jit(jax.grad(lambda x: model.log_density(x, T).sum()))
    assert same(grad(over), expected)
    mapped = jax.jit(jax.shard_map(lambda x: model.score(x, T), mesh=mesh, in_specs=split, out_specs=split))
    assert same(mapped(over), expected) and len(mapped(over).devices()) == 2


# ----- Errors ---------------------------------------------------------------------------------------------------------


def test_bad_values_raise_with_the_librarys_message(model, x64):
    x = jnp.asarray(points())
    for score in (model.score, jax.jit(model.score), jax.vmap(model.score, (0, None))):
        with pytest.raises(FAILED, match="MNEMO_E_INVALID: x: row 2, column 1 is NaN"):
            score(x.at[2, 1].set(jnp.nan), T).block_until_ready()
        with pytest.raises(FAILED, match=r"MNEMO_E_INVALID: t, row 0: t is 100.0; it must be in \[0.0, 80.0\]"):
            np.asarray(score(x, 100.0))
        with pytest.raises(FAILED, match="MNEMO_E_INVALID: x: row 0"):
            jax.vmap(model.jvp, (0, None, 0))(x * jnp.inf, T, x).block_until_ready()
        assert np.isfinite(score(x, T)).all()


def test_bad_arguments(model, data, edm, x):
    for bad, kind, message in (
        (x.astype(jnp.float16), mnemo.DtypeError, "x is float16; it must be float32 or float64"),
        (x.astype(int), mnemo.DtypeError, "x is int64"),
        (x[:, :2], mnemo.ShapeError, r"x has shape \(6, 2\); the last dimensions must be \(4,\)"),
        (1.0, mnemo.ShapeError, "x has shape"),
    ):
        for score in (model.score, jax.jit(model.score)):
            with pytest.raises(kind, match=message):
                score(bad, T)
    with pytest.raises(mnemo.DtypeError, match="t is complex128"):
        model.score(x, 1j)
    for shape in ((5,), (6, 1), (1, 6)):
        with pytest.raises(mnemo.ShapeError, match="t has shape"):
            model.score(x, jnp.ones(shape))
    with pytest.raises(mnemo.InvalidError, match="'scores' is not one of"):
        model.evaluate(x, T, ("scores",))
    with pytest.raises(TypeError, match="not the string"):
        model.evaluate(x, T, "score")
    with pytest.raises(mnemo.ShapeError, match="product must be the data's dimension, 4"):
        Empirical(data, edm, shape=(3, 2))
    with pytest.raises(mnemo.InvalidError, match="regularizer"):
        Empirical(data, edm, "ridge")
    with pytest.raises(TypeError):
        Empirical(mnemo.Score.custom(edm, DIM, lambda x, t: x), edm)


def test_other_devices_are_refused(model, x):
    with pytest.raises(mnemo.DeviceError, match="on the CPU only"):
        jax.jit(model.score).trace(x, T).lower(lowering_platforms=("cuda",))


# ----- Lifetimes ------------------------------------------------------------------------------------------------------


def lent():
    gc.collect()
    mnemo.jax._drop_gone()
    return len(mnemo.jax._lent)


@pytest.fixture
def before():
    jax.clear_caches()
    return lent()


def test_a_score_is_given_back_with_its_last_program(data, edm, x, before):
    def use():
        model = Empirical(data, edm)
        assert lent() == before + 1
        jax.jit(jax.grad(lambda x: model.log_density(x, T).sum()))(x).block_until_ready()
        jax.vmap(model.score, (0, None))(x, T).block_until_ready()

    for _ in range(3):
        use()
        assert lent() == before


def test_a_compiled_program_keeps_its_score(data, edm, x, before):
    model = Empirical(data, edm)
    expected = model.score(x, T)
    compiled = jax.jit(lambda x: model.score(x, T)).lower(x).compile()
    lowered = jax.jit(lambda x: model.denoised(x, T)).lower(x)
    del model
    assert lent() == before + 1
    assert same(compiled(x), expected)
    del compiled
    jax.clear_caches()
    assert lent() == before
    with pytest.raises(FAILED, match="the mnemo.jax.Empirical of this function is gone"):
        lowered.compile()


def test_nobody_need_wait_for_the_result(data, edm, x, before):
    """Programs are started and everything of them is dropped while they run."""
    wide = jnp.asarray(np.repeat(points(), 200, 0))
    expected = Empirical(data, edm).score(wide, T)

    def start():
        model = Empirical(data, edm)
        return jax.jit(lambda x: model.score(x, T))(wide)

    for result in [start() for _ in range(20)]:
        assert same(result, expected)
    del result
    jax.clear_caches()
    assert lent() == before


def test_closed_sources_do_not_matter(x):
    data, process = mnemo.Dataset(rows()), mnemo.Process.ve_power(2, 1, 80)
    model = Empirical(data, process)
    expected = model.denoised(x, T)
    data.close()
    process.close()
    assert same(model.denoised(x, T), expected)
    assert np.isfinite(jax.grad(lambda x: model.denoised(x, T).sum())(x)).all()


def test_copies_are_refused(model):
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copied(model)


def test_threads(model, x):
    expected = [model.score(x, 0.5 + k) for k in range(4)]
    wrong = []

    def work(k):
        with jax.enable_x64(True):
            for _ in range(20):
                if not same(jax.grad(lambda x: model.log_density(x, 0.5 + k).sum())(x), expected[k]):
                    wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert wrong == []
