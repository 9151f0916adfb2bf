# SPDX-License-Identifier: MIT OR Apache-2.0
import numpy as np
import pytest

import mnemo

P = mnemo.Process


def vp(t, low=0.1, high=20.0, end=1.0):
    beta = low + t / end * (high - low)
    total = low * t + (high - low) * t**2 / (2 * end)
    return np.exp(-total / 2), np.sqrt(-np.expm1(-total)), beta, beta


def sub_vp(t, low=0.1, high=20.0):
    m, sigma, beta, _ = vp(t, low, high)
    return m, sigma**2, beta, beta * (1 - m**4)


def ve_power(t, k=3.0, a=0.5):
    return np.ones_like(t), np.sqrt(k * t ** (a + 1) / (a + 1)), 0 * t, k * t**a


def ve_exponential(t, r=100.0):
    return np.ones_like(t), np.sqrt((r**t - 1) / np.log(r)), 0 * t, r**t


def ve_geometric(t, low=0.01, high=50.0):
    sigma = low * (high / low) ** t
    return np.ones_like(t), sigma, 0 * t, 2 * sigma**2 * np.log(high / low)


def flow(t):
    return 1 - t, t, 2 / (1 - t), 2 * t / (1 - t)


CASES = [
    (P.vp_linear(0.1, 20), vp),
    (P.vp_linear(0.5, 2, t_end=3), lambda t: vp(t, 0.5, 2, 3)),
    (P.sub_vp(0.1, 20), sub_vp),
    (P.ve_power(3, 0.5, 2), ve_power),
    (P.ve_exponential(100, 1), ve_exponential),
    (P.ve_geometric(0.01, 50), ve_geometric),
    (P.flow(), flow),
]


@pytest.mark.parametrize("process, expected", CASES, ids=[repr(p) for p, _ in CASES])
def test_closed_form_and_inverse(process, expected):
    t = np.array([[0.05, 0.3], [0.5, 0.9]])
    found = process.eval(t)
    assert found._fields == ("m", "sigma", "beta", "g")
    for value, reference in zip(found, expected(t)):
        assert value.shape == t.shape
        np.testing.assert_allclose(value, reference, rtol=1e-12)
    np.testing.assert_allclose(process.time_of_sigma(found.sigma), t, rtol=1e-9)


def test_discrete():
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    process = P.discrete(alpha_bar)
    t = np.arange(1, 1001)
    found = process.eval(t)
    np.testing.assert_allclose(found.m, np.sqrt(alpha_bar), rtol=1e-12)
    np.testing.assert_allclose(found.sigma, np.sqrt(1 - alpha_bar), rtol=1e-12)
    np.testing.assert_allclose(process.time_of_sigma(found.sigma[::100]), t[::100], rtol=1e-9)
    alpha_bar[:] = 0  # the table was copied
    assert process.eval(1.0).m == found.m[0]


def test_numbers_give_numbers():
    process = P.ve_power(2, 1, 80)
    assert process.eval(3) == (1.0, 3.0, 0.0, 6.0)
    assert all(type(v) is float for v in process.eval(np.float32(3)))
    assert process.time_of_sigma(5) == 5.0 and type(process.time_of_sigma(5)) is float
    assert process.eval([]).m.shape == (0,)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: P.vp_linear(-1, 20), "beta_min"),
        (lambda: P.vp_linear(0.1, float("nan")), "beta_max"),
        (lambda: P.sub_vp(0.1, float("inf")), "beta_max"),
        (lambda: P.ve_power(0, 1, 80), "k"),
        (lambda: P.ve_exponential(-1, 1), "rate_base"),
        (lambda: P.ve_geometric(1, 0.5), "sigma_max"),
        (lambda: P.discrete([0.5, 0.6]), "alpha_bar"),
        (lambda: P.discrete([]), "alpha_bar has 0"),
        (lambda: P.flow().eval([0.5, 1.5]), "1.5"),
        (lambda: P.flow().time_of_sigma(-1), "sigma"),
    ],
)
def test_values_that_are_refused(make, message):
    with pytest.raises(mnemo.InvalidError, match=message) as caught:
        make()
    assert caught.value.name == "MNEMO_E_INVALID" and caught.value.code == 1


def test_types_that_are_refused():
    for make in (lambda: P.vp_linear("a", 2), lambda: P.flow().eval("now"), lambda: P.discrete([[0.5], [0.2, 0.1]]), P):
        with pytest.raises(TypeError):
            make()
