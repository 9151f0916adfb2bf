# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the tests of the plugins share: small training sets, and scores of every kind."""

import numpy as np
import pytest

import mnemo

DIM = 4

PROCESSES = {
    "ve_power": (mnemo.Process.ve_power(2, 1, 80), 0.8),
    "vp_linear": (mnemo.Process.vp_linear(0.1, 20, 1), 0.3),
    "flow": (mnemo.Process.flow(), 0.4),
}
# Strengths at which the factor min(1, p/c) is below 1 at some of the points and 1 at others.
REGULARIZERS = {
    "none": {},
    "tikhonov": {"strength": 0.3},
    "bayes_density": {"log_strength": -4.5},
    "bayes_weight": {"log_strength": 0.7},
}


def rows(seed: int = 0, n: int = 12, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


def points(seed: int = 1, n: int = 6, dim: int = DIM) -> np.ndarray:
    return 0.8 * np.random.default_rng(seed).normal(size=(n, dim))


@pytest.fixture(scope="session")
def data() -> mnemo.Dataset:
    return mnemo.Dataset(rows(), labels=np.arange(12) % 3)


@pytest.fixture(scope="session")
def edm() -> mnemo.Process:
    return PROCESSES["ve_power"][0]


def jacobian_of_denoised(row: np.ndarray, x: np.ndarray, sigma: float) -> np.ndarray:
    """The derivative of the mean of `row` [N, d] under the weights at x, for m = 1: their covariance / sigma^2."""
    log_weight = -((x - row) ** 2).sum(1) / (2 * sigma**2)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    off = row - weight @ row
    return (off * weight[:, None]).T @ off / sigma**2
