# SPDX-License-Identifier: MIT OR Apache-2.0
"""The closed forms, in numpy's float64 with all differences written out."""

import numpy as np


def empirical(y, x, m, sigma):
    """Everything `Score.eval` gives for one time, and the weights' sum, as a dict."""
    d2 = ((x[:, None, :] - m * y[None, :, :]) ** 2).sum(-1)
    l = -d2 / (2 * sigma**2)
    top = l.max(1, keepdims=True)
    total = np.exp(l - top).sum(1, keepdims=True)
    w = np.exp(l - top) / total
    log_weight = (top + np.log(total))[:, 0]
    ybar = w @ y
    spread = (w * ((y[None] - ybar[:, None]) ** 2).sum(-1)).sum(1)
    n, d = y.shape
    return {
        "score": (m * ybar - x) / sigma**2,
        "denoised": ybar,
        "log_density": log_weight - np.log(n) - d / 2 * np.log(2 * np.pi * sigma**2),
        "divergence": -d / sigma**2 + m**2 / sigma**4 * spread,
        "entropy": -(w * np.log(np.maximum(w, 1e-300))).sum(1),
        "nearest_index": d2.argmin(1),
        "nearest_distance": np.sqrt(d2.min(1)),
        "log_weight": log_weight,
    }


def regularized(y, x, m, sigma, regularizer, c):
    """The score under a regularizer with the constant c."""
    e = empirical(y, x, m, sigma)
    if regularizer == "tikhonov":
        return e["score"] * sigma**2 / (sigma**2 + c)
    log_p = e["log_density"] if regularizer == "bayes_density" else e["log_weight"]
    return e["score"] * np.minimum(1, np.exp(log_p - np.log(c)))[:, None]


def derivative(f, x, v, h=1e-5):
    """The derivative of f along v by central differences."""
    return (f(x + h * v) - f(x - h * v)) / (2 * h)
