"""The data sets, and the queries that are asked of them."""

import functools
import gzip
import os

import numpy as np

FASHION = os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist")
BLOCK = 2000


class Data:
    """Rows as they are stored; value = scale * raw + shift."""

    def __init__(self, name, raw, scale=1.0, shift=0.0):
        self.name, self.raw, self.scale, self.shift = name, raw, scale, shift
        self.n, self.d = raw.shape

    def double(self, rows):
        """Some rows in float64."""
        return self.raw[rows].astype(np.float64) * self.scale + self.shift

    def blocks(self):
        """All rows in float64, a block at a time, and where they are."""
        for i in range(0, self.n, BLOCK):
            where = slice(i, min(i + BLOCK, self.n))
            yield where, self.double(where)

    @functools.cached_property
    def single(self):
        """All rows in float32."""
        if self.raw.dtype == np.float32 and (self.scale, self.shift) == (1.0, 0.0):
            return self.raw
        y = np.empty((self.n, self.d), np.float32)
        for where, block in self.blocks():
            y[where] = block
        return y

    @functools.cached_property
    def half_squares(self):
        """|y|^2 / 2, float64 sums rounded to float32."""
        return np.concatenate([0.5 * (block * block).sum(1) for _, block in self.blocks()]).astype(np.float32)

    @functools.cached_property
    def diameter(self):
        """An upper bound of the distance of two rows."""
        mean = sum(block.sum(0) for _, block in self.blocks()) / self.n
        return 2 * max(np.sqrt(((block - mean) ** 2).sum(1).max()) for _, block in self.blocks())

    def noised(self, batch, sigma, seed=0):
        """Noised rows, float32; the first few are the same for every batch size."""
        rng = np.random.default_rng([seed, int(1e6 * sigma)])
        rows, x = np.empty(batch, np.int64), np.empty((batch, self.d), np.float32)
        for b in range(batch):
            rows[b] = rng.integers(self.n)
            x[b] = self.double(rows[b]) + sigma * rng.standard_normal(self.d)
        return x

    def bisectors(self, neighbours, sigma, seed=0):
        """The middles of pairs of near rows, noised along all directions but the line between them, float32."""
        rng = np.random.default_rng([seed, int(1e6 * sigma)])
        x = np.empty((len(neighbours), self.d), np.float32)
        for b, pair in enumerate(neighbours):
            y = self.double(pair)
            line = (y[0] - y[1]) / np.linalg.norm(y[0] - y[1])
            noise = rng.standard_normal(self.d)
            x[b] = y.mean(0) + sigma * (noise - line * (line @ noise))
        return x


def read_idx(path, cols):
    """The images of an IDX file."""
    with gzip.open(path) as f:
        return np.frombuffer(f.read()[16:], np.uint8).reshape(-1, cols)


def fashion():
    """Fashion-MNIST: 60000 images of 784 pixels, 8 bits, to be taken as [-1, 1]."""
    return Data("Fashion-MNIST", read_idx(f"{FASHION}/train-images-idx3-ubyte.gz", 784), 1 / 127.5, -1.0)


def fashion_test():
    """Its 10000 test images, float32 in [-1, 1]."""
    raw = read_idx(f"{FASHION}/t10k-images-idx3-ubyte.gz", 784)
    return (raw / 127.5 - 1).astype(np.float32)


SYNTHETIC = """50000 images of 32 x 32 pixels and three colours, d = 3072, float32: each is the sum of the 64 products of cosines
of up to 7 half-waves along x and y, per colour, with independent normal heights of standard deviation .25 / sqrt(1 + i^2 + j^2)
of its own (rank 192), and white noise of standard deviation .05"""


def synthetic(n=50000, side=32, waves=8):
    """See SYNTHETIC."""
    rng = np.random.default_rng(1)
    i, k = np.arange(waves)[:, None], np.arange(side)[None]
    wave = np.cos(np.pi * i * (k + 0.5) / side)
    basis = np.einsum("ix,jy->ijxy", wave, wave).reshape(waves * waves, side * side).astype(np.float32)
    height = (0.25 / np.sqrt(1 + i**2 + i.T**2)).reshape(-1).astype(np.float32)
    y = np.empty((n, 3, side * side), np.float32)
    for at in range(0, n, BLOCK):
        part = y[at : at + BLOCK]
        heights = rng.standard_normal((len(part), 3, waves * waves), np.float32) * height
        part[:] = heights @ basis + np.float32(0.05) * rng.standard_normal(part.shape, np.float32)
    return Data("synthetic", y.reshape(n, -1))


DATA = {"fashion": fashion, "synthetic": synthetic}
