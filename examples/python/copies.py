# SPDX-License-Identifier: MIT OR Apache-2.0
"""Which models copy their training set? The short audit; the same program is in every language of examples/.

    python copies.py ../data/digits.npy
"""

import sys

import numpy as np

import mnemo

SAMPLES, NEIGHBOURS, SEED = 64, 500, 1


def copy_distance(data):
    """Half the median distance between a row and its nearest other row: what is nearer than that is a copy."""
    distance, _ = mnemo.nearest(data, data.gather(range(NEIGHBOURS)), k=2)
    return np.sort(distance[:, 1])[NEIGHBOURS // 2] / 2


def fit_gaussian(data):
    """A model of the caller's own: the Gaussian with the data's mean and mean variance, by its denoised value."""
    rows = data.gather(range(data.rows))
    mean = rows.mean(0)
    variance = ((rows - mean) ** 2).mean()

    def denoise(x, sigma):  # E[y | x]; EDM's time is sigma
        return mean + (variance / (variance + sigma**2))[:, None] * (x - mean)

    return denoise


def audit(name, score, data, threshold):
    """Samples of a score by EDM's sampler, and how near they come to the training rows."""
    samples = score.sample(SAMPLES, seed=SEED)  # Heun, Karras grid, 18 steps
    report = mnemo.memorization(data, samples, threshold)
    nearest = f"{report.min_distance:9.4f} {report.median_distance:9.4f} {report.max_distance:9.4f}"
    print(f"{name:<15} {report.copied:3} of {SAMPLES} {nearest}")


def main(path="digits.npy"):
    edm = mnemo.Process.ve_power(2, 1, 80)  # sigma(t) = t, up to 80

    # The images as they are, then scaled to [-1, 1], which EDM's noise levels are meant for.
    raw = mnemo.Dataset.open(path)
    scale = 2 / (raw.max - raw.min)
    data = mnemo.Dataset.open(path, scale=scale, shift=-1 - raw.min * scale)
    threshold = copy_distance(data)
    print(f"{data.rows} rows of {data.dim} values in [{raw.min:.1f}, {raw.max:.1f}], scaled to [-1, 1]")
    print(f"a copy is within {threshold:.4f} of a training row\n")
    print(f"{'model':<15} {'copied':>9} {'nearest':>9} {'median':>9} {'farthest':>9}")

    audit("exact", mnemo.Score.empirical(data, edm), data, threshold)
    for strength in (0.01, 0.04, 0.16, 0.64):
        score = mnemo.Score.empirical(data, edm, "tikhonov", strength=strength)
        audit(f"Tikhonov {strength:.2f}", score, data, threshold)
    gaussian = mnemo.Score.custom(edm, data.dim, fit_gaussian(data), prediction="x0")
    audit("Gaussian", gaussian, data, threshold)


if __name__ == "__main__":
    main(*sys.argv[1:])
