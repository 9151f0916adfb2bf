# SPDX-License-Identifier: MIT OR Apache-2.0
import numpy as np
import pytest

import mnemo

EDM = mnemo.Process.ve_power(2, 1, 80)  # sigma = t
SOLVERS = ("euler", "heun", "exponential", "dpmpp_2m", "rk45", "euler_maruyama", "ancestral", "edm_stochastic")
MEAN, S0 = np.array([1.0, -0.5]), 0.5


def gaussian_score(x, t):
    return (MEAN - x) / (S0**2 + np.asarray(t)[..., None] ** 2)


@pytest.fixture
def gaussian():
    return mnemo.Score.custom(EDM, 2, gaussian_score)


def nodes(score, x, **options):
    seen = []
    score.sample(x, observer=lambda step, t, state: seen.append((step, t)), **options)
    assert [step for step, _ in seen] == list(range(len(seen)))
    return np.array([t for _, t in seen])


def philox(seed, sample, step, purpose, elements):
    """Philox4x32-10 and Box-Muller, as the header of the library states them."""
    out = []
    for element in range(0, elements, 2):
        key = [seed & 0xFFFFFFFF, seed >> 32]
        counter = [element // 2, step, sample & 0xFFFFFFFF, purpose << 24 | sample >> 32]
        for _ in range(10):
            a, b = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
            counter = [b >> 32 ^ counter[1] ^ key[0], b & 0xFFFFFFFF, a >> 32 ^ counter[3] ^ key[1], a & 0xFFFFFFFF]
            key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
        w0, w1, w2, w3 = counter
        u, v = (((w1 << 32 | w0) >> 11) + 0.5) * 2.0**-53, ((w3 << 32 | w2) >> 11) * 2.0**-53
        r = np.sqrt(-2 * np.log(u))
        out += [r * np.cos(2 * np.pi * v), r * np.sin(2 * np.pi * v)]
    return np.array(out[:elements])


def test_the_flow_of_a_gaussian(gaussian, rng):
    x = rng.normal(size=(6, 2)) * 80
    before = x.copy()
    t_end = 0.002
    exact = MEAN + (x - MEAN) * np.sqrt((S0**2 + t_end**2) / (S0**2 + 80**2))
    found = gaussian.sample(x, "rk45", rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found, exact, atol=1e-7)
    np.testing.assert_allclose(gaussian.sample(x, steps=2000), exact, atol=1e-4)
    np.testing.assert_array_equal(x, before)
    assert np.abs(gaussian.sample(x, "rk45", rtol=1e-2, atol=1e-2) - exact).max() > 1e-6


def test_one_step_of_every_rule(gaussian, rng):
    x, a, b = rng.normal(size=(3, 2)), 2.0, 1.0
    slope = lambda x, t: -t * gaussian_score(x, t)  # noqa: E731
    once = lambda solver, **more: gaussian.sample(x, solver, times=[a, b], **more)  # noqa: E731
    euler = x + (b - a) * slope(x, a)
    heun = x + (b - a) / 2 * (slope(x, a) + slope(euler, b))
    denoised = x + a**2 * gaussian_score(x, a)
    ddim = denoised + b / a * (x - denoised)
    np.testing.assert_allclose(once("euler"), euler, rtol=1e-12)
    np.testing.assert_allclose(once("heun"), heun, rtol=1e-12)
    np.testing.assert_allclose(once("exponential"), ddim, rtol=1e-12)
    np.testing.assert_allclose(once("dpmpp_2m"), ddim, rtol=1e-12)
    np.testing.assert_allclose(once("ancestral", eta=0), ddim, rtol=1e-12)
    np.testing.assert_allclose(once("euler_maruyama", alpha2=0), euler, rtol=1e-12)
    np.testing.assert_allclose(once("edm_stochastic"), heun, rtol=1e-12)

    noise = np.stack([philox(5, 9 + i, 0, 1, 2) for i in range(3)])
    em = x + (b - a) * 2 * slope(x, a) + np.sqrt(2 * a * (a - b)) * noise
    spread = np.sqrt(b**2 * (1 - b**2 / a**2))
    ddpm = denoised + np.sqrt(b**2 - spread**2) / a * (x - denoised) + spread * noise
    np.testing.assert_allclose(once("euler_maruyama", seed=5, first_sample=9), em, rtol=1e-10)
    np.testing.assert_allclose(once("ancestral", seed=5, first_sample=9), ddpm, rtol=1e-10)
    np.testing.assert_allclose(once("exponential", eta=1, seed=5, first_sample=9), ddpm, rtol=1e-10)


@pytest.mark.parametrize("seed, first", [(0, 0), (2**64 - 1, 7), (0x123456789ABCDEF, 2**40)])
def test_the_prior_is_philox(gaussian, seed, first):
    start = []
    gaussian.sample(3, seed=seed, first_sample=first, observer=lambda step, t, x: start.append(x))
    expected = 80 * np.stack([philox(seed, first + i, 0, 0, 2) for i in range(3)])
    np.testing.assert_allclose(start[0], expected, rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_sample_does_not_depend_on_its_batch(score, solver, dtype):
    kwargs = dict(solver=solver, steps=7, seed=3, dtype=dtype, grid="uniform_t", t_end=0.05)
    whole = score.sample(9, **kwargs)
    assert whole.shape == (9, 5) and whole.dtype == dtype and np.isfinite(whole).all()
    np.testing.assert_array_equal(whole[4:], score.sample(5, first_sample=4, **kwargs))
    np.testing.assert_array_equal(whole, score.sample(9, **kwargs))
    assert (whole != score.sample(9, **{**kwargs, "seed": 4})).all()


def test_exact_scores_copy(score, rows):
    assert mnemo.memorization(mnemo.Dataset(rows), score.sample(50, t_end=1e-3), 0.1).fraction_copied == 1


def test_grids(gaussian):
    np.testing.assert_allclose(nodes(gaussian, 1, grid="uniform_t", steps=4, t_start=2, t_end=1), np.linspace(2, 1, 5))
    np.testing.assert_allclose(nodes(gaussian, 1, grid="uniform_s", steps=4, t_end=1), np.geomspace(80, 1, 5))
    karras = lambda rho, n: np.linspace(80 ** (1 / rho), 0.002 ** (1 / rho), n) ** rho  # noqa: E731
    np.testing.assert_allclose(nodes(gaussian, 1), karras(7, 19), rtol=1e-9)
    np.testing.assert_allclose(nodes(gaussian, 1, grid="karras", rho=3, steps=5), karras(3, 6), rtol=1e-9)
    np.testing.assert_allclose(nodes(gaussian, 1, denoise_last=True), [*karras(7, 18), 0], rtol=1e-9)
    np.testing.assert_allclose(nodes(gaussian, 1, times=[5, 2, 0.5]), [5, 2, 0.5])
    np.testing.assert_allclose(nodes(gaussian, 1, grid="custom", times=np.float32([5, 2, 0])), [5, 2, 0])


def test_the_last_step_may_denoise(gaussian):
    x = gaussian.sample(4, times=[80, 3, 1])
    np.testing.assert_allclose(gaussian.sample(4, times=[80, 3, 1, 0]), gaussian.denoised(x, 1), rtol=1e-12)


def test_options_reach_the_sampler(gaussian):
    plain = gaussian.sample(3, "edm_stochastic")
    churned = gaussian.sample(3, "edm_stochastic", s_churn=10)
    assert (plain != churned).all()
    np.testing.assert_array_equal(plain, gaussian.sample(3, "edm_stochastic", s_churn=10, s_min=100))
    np.testing.assert_array_equal(plain, gaussian.sample(3, "edm_stochastic", s_churn=10, s_max=1e-9))
    assert (churned != gaussian.sample(3, "edm_stochastic", s_churn=10, s_noise=0.5)).all()
    default = gaussian.sample(3, "euler_maruyama", steps=50)
    np.testing.assert_array_equal(default, gaussian.sample(3, "euler_maruyama", steps=50, alpha2=1))
    assert (default != gaussian.sample(3, "euler_maruyama", steps=50, alpha2=0.5)).all()
    assert (gaussian.sample(3, "ancestral") != gaussian.sample(3, "ancestral", eta=0.5)).all()
    assert (gaussian.sample(3, "rk45") != gaussian.sample(3, "rk45", rtol=1e-3)).any()
    assert (gaussian.sample(3, "rk45") != gaussian.sample(3, "rk45", atol=1e-3)).any()


def test_into_the_callers_memory(gaussian, rng):
    x = rng.normal(size=(4, 2)) * 80
    expected = gaussian.sample(x)
    wide = np.full((4, 6), np.nan)
    out = wide[:, 1:3]
    assert gaussian.sample(x, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert np.isnan(wide[:, [0, 3, 4, 5]]).all()
    np.testing.assert_array_equal(gaussian.sample(4, out=out), gaussian.sample(4))
    assert gaussian.sample(x, out=x) is x
    np.testing.assert_array_equal(x, expected)
    single = np.empty((4, 2), np.float32)
    gaussian.sample(4, out=single)
    np.testing.assert_array_equal(single, gaussian.sample(4, dtype=np.float32))


def test_empty_batches(gaussian):
    assert gaussian.sample(0).shape == (0, 2) and gaussian.sample(np.empty((0, 2))).shape == (0, 2)


def test_observer(gaussian):
    states = []
    end = gaussian.sample(3, steps=6, dtype=np.float32, observer=lambda step, t, x: states.append(x))
    assert len(states) == 7 and states[0].dtype == np.float32 and states[0].shape == (3, 2)
    np.testing.assert_array_equal(states[-1], end)  # a copy: the states are still what they were
    assert (states[0] != states[1]).all()

    def failing(step, t, x):
        if step == 2:
            raise LookupError("enough")

    before = np.ones((3, 2))
    with pytest.raises(LookupError, match="enough"):
        gaussian.sample(before, observer=failing, out=before)
    assert (before == 1).all()


def test_progress(gaussian, score, rows):
    calls = []
    gaussian.sample(3, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (18, 18) and calls == sorted(calls) and len(calls) > 3
    for call in (
        lambda p: score.eval(rows, 0.3, progress=p),
        lambda p: score.jvp(rows, 0.3, rows, progress=p),
        lambda p: mnemo.nearest(mnemo.Dataset(rows), rows, progress=p),
        lambda p: mnemo.memorization(mnemo.Dataset(rows), rows, 1.0, progress=p),
        lambda p: gaussian.sample(3, progress=p),
    ):
        calls.clear()
        call(lambda done, total: calls.append((done, total)))
        assert calls and calls[-1][0] == calls[-1][1]
        with pytest.raises(mnemo.Cancelled, match="progress") as caught:
            call(lambda done, total: True)
        assert caught.value.name == "MNEMO_E_CANCELLED"
        with pytest.raises(ZeroDivisionError):
            call(lambda done, total: done // 0)


@pytest.mark.parametrize(
    "arguments, kind, message",
    [
        (dict(x=-1), mnemo.InvalidError, "x is -1"),
        (dict(x=np.ones((3, 5))), mnemo.ShapeError, "5"),
        (dict(x=np.ones(2)), mnemo.ShapeError, "x: 1 axes"),
        (dict(x=np.ones((3, 2), int)), mnemo.DtypeError, "I64"),
        (dict(x=np.array([[1, np.nan]])), mnemo.InvalidError, "column 1"),
        (dict(x="many"), mnemo.DtypeError, "x"),
        (dict(x=3, out=np.empty((4, 2))), mnemo.ShapeError, "out"),
        (dict(x=np.ones((3, 2)), out=np.empty((4, 2))), mnemo.ShapeError, "out"),
        (dict(x=3, dtype=np.float16), mnemo.DtypeError, "F16"),
        (dict(x=3, solver="magic"), mnemo.InvalidError, "'heun'"),
        (dict(x=3, grid="magic"), mnemo.InvalidError, "'karras'"),
        (dict(x=3, grid="custom"), mnemo.InvalidError, "without times"),
        (dict(x=3, grid="karras", times=[2, 1]), mnemo.InvalidError, "with times"),
        (dict(x=3, times=[1, 2]), mnemo.InvalidError, "times"),
        (dict(x=3, steps=0), mnemo.InvalidError, "steps"),
        (dict(x=3, steps=1.5), TypeError, "steps"),
        (dict(x=3, seed=-1), mnemo.InvalidError, "seed"),
        (dict(x=3, seed=2**64), mnemo.InvalidError, "seed"),
        (dict(x=3, first_sample=-1), mnemo.InvalidError, "first_sample"),
        (dict(x=3, t_start=100), mnemo.InvalidError, "t_start"),
        (dict(x=3, t_end=-1), mnemo.InvalidError, "t_end"),
        (dict(x=3, alpha2=1), mnemo.UnsupportedError, "alpha2"),
        (dict(x=3, solver="ancestral", eta=2), mnemo.InvalidError, "eta"),
        (dict(x=3, solver="rk45", rtol="small"), TypeError, "rtol"),
        (dict(x=3, observer=3), TypeError, "observer"),
    ],
)
def test_arguments_that_are_refused(gaussian, arguments, kind, message):
    with pytest.raises(kind, match=message):
        gaussian.sample(**arguments)


def test_instruction_sets_and_threads_give_the_same_bits(rows, process):
    found = []
    for threads in (1, 3):
        context = mnemo.Context(threads, instruction_set="portable")
        assert context.describe()["threads"] == threads and context.describe()["instruction_set"] == "portable"
        found.append(mnemo.Score.empirical(mnemo.Dataset(rows, context=context), process).sample(20, steps=5))
    np.testing.assert_array_equal(*found)
