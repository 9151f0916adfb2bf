"""Who computes the score: mnemo and the best known ways without it, all exact (no row is left out by hand), all threads.

The score is that of a VE process, (ybar - x) / sigma^2. Peers keep rows and |y|^2 / 2 in float32, from which logits up to a
constant of the query are (x.y - |y|^2 / 2) / sigma^2, and reuse their buffers.
"""

import numpy as np
import torch

import mnemo

# Below it a weight and its products with pixels are subnormal numbers, which cost a hundred times more. The peers' weights end
# here, where the noise level lets logits differ by so much.
LEAST_LOGIT = -70.0


def edm():
    """The process with sigma = t."""
    return mnemo.Process.ve_power(2, 1, 80)


class Mnemo:
    """This library, through its Python package. It keeps the rows in their own type."""

    name = "mnemo"

    def __init__(self, data):
        self.data = mnemo.Dataset(data.raw, scale=data.scale, shift=data.shift)
        self.model = mnemo.Score.empirical(self.data, edm())

    def score(self, x, sigma):
        return self.model.score(x, sigma)

    def log_density(self, x, sigma):
        return self.model.eval(x, sigma, out={"log_density": np.empty(len(x))}, outputs=()).log_density


class Products:
    """What those have in common who compute all logits, B x N of them, and then weigh the rows."""

    def __init__(self, data):
        self.data, self.y, self.buffer = data, data.single, np.empty((0, 0), np.float32)
        self.halves = data.half_squares

    def spread(self, sigma):
        """Whether logits may differ by more than LEAST_LOGIT: rows this far apart, noise five sigma along their line."""
        far = self.data.diameter
        return (far * far + 10 * sigma * far) / (2 * sigma * sigma) > -LEAST_LOGIT

    def room(self, batch):
        if len(self.buffer) != batch:
            self.buffer = np.empty((batch, self.data.n), np.float32)
        return self.buffer

    def to_log_density(self, log_sum, x, sigma):
        d, x = self.data.d, x.astype(np.float64)
        return log_sum - (x * x).sum(1) / (2 * sigma**2) - np.log(self.data.n) - d / 2 * np.log(2 * np.pi * sigma**2)


class Numpy(Products):
    """numpy with OpenBLAS."""

    name = "numpy"

    def weights(self, x, sigma):
        scale = np.float32(1 / sigma**2)
        w = np.matmul(x * scale, self.y.T, out=self.room(len(x)))
        w -= self.halves * scale
        top = w.max(1, keepdims=True)
        w -= top
        if self.spread(sigma):
            np.maximum(w, LEAST_LOGIT, out=w)
        np.exp(w, out=w)
        return w, top, w.sum(1, keepdims=True)

    def score(self, x, sigma):
        w, _, z = self.weights(x, sigma)
        s = w @ self.y
        s /= z
        s -= x
        s *= np.float32(1 / sigma**2)
        return s

    def log_density(self, x, sigma):
        _, top, z = self.weights(x, sigma)
        return self.to_log_density((top + np.log(z))[:, 0].astype(np.float64), x, sigma)

    def products(self, x):
        """The two matrix products of a score and nothing else."""
        return np.matmul(x, self.y.T, out=self.room(len(x))) @ self.y


class Torch(Products):
    """PyTorch with MKL: the products and softmax."""

    name = "torch"

    def __init__(self, data):
        super().__init__(data)
        self.rows, self.norms = torch.from_numpy(self.y), torch.from_numpy(self.halves)

    def logits(self, x, sigma):
        scale, out = 1 / sigma**2, torch.from_numpy(self.room(len(x)))
        return torch.addmm(self.norms, torch.from_numpy(x), self.rows.T, beta=-scale, alpha=scale, out=out)

    def score(self, x, sigma):
        logits = self.logits(x, sigma)
        w = torch.softmax(logits, 1, out=logits)
        if self.spread(sigma):
            torch.threshold_(w, float(np.exp(LEAST_LOGIT)), 0.0)
        return torch.mm(w, self.rows).sub_(torch.from_numpy(x)).mul_(1 / sigma**2).numpy()

    def log_density(self, x, sigma):
        return self.to_log_density(torch.logsumexp(self.logits(x, sigma), 1).numpy().astype(np.float64), x, sigma)

    def products(self, x):
        logits = torch.mm(torch.from_numpy(x), self.rows.T, out=torch.from_numpy(self.room(len(x))))
        return torch.mm(logits, self.rows)


class Attention:
    """PyTorch's scaled dot product attention: keys and values [y, -|y|^2 / 2], queries [x, 1] / sigma^2. No log density."""

    name = "SDPA"
    log_density = None

    def __init__(self, data):
        self.data = data
        # Padded to a cache line.
        keys = np.zeros((data.n, -(-(data.d + 1) // 16) * 16), np.float32)
        keys[:, : data.d] = data.single
        keys[:, data.d] = -data.half_squares
        self.keys = torch.from_numpy(keys)[None, None]

    def score(self, x, sigma):
        x, scale, d = torch.from_numpy(x), 1 / sigma**2, self.data.d
        q = torch.zeros(1, 1, len(x), self.keys.shape[3])
        torch.mul(x, scale, out=q[0, 0, :, :d])
        q[..., d] = scale
        mean = torch.nn.functional.scaled_dot_product_attention(q, self.keys, self.keys, scale=1.0)[0, 0, :, :d]
        return ((mean - x) * scale).numpy()


PEERS = (Numpy, Torch, Attention)
EVERYONE = (Mnemo, *PEERS)


def exact(data, x, sigma):
    """The score and the log density in float64, by differences."""
    x = x.astype(np.float64)
    d2 = np.empty((len(x), data.n))
    for where, block in data.blocks():
        for b in range(len(x)):
            d2[b, where] = ((x[b] - block) ** 2).sum(1)
    logits = -d2 / (2 * sigma * sigma)
    top = logits.max(1, keepdims=True)
    w = np.exp(logits - top)
    z = w.sum(1, keepdims=True)
    w /= z
    # About x, so that nothing cancels.
    offset = sum(np.stack([w[b, where] @ (block - x[b]) for b in range(len(x))]) for where, block in data.blocks())
    log_p = (top + np.log(z))[:, 0] - np.log(data.n) - data.d / 2 * np.log(2 * np.pi * sigma * sigma)
    return offset / (sigma * sigma), log_p


def score_errors(found, reference):
    """Relative L2 error of each row."""
    return np.linalg.norm(found - reference, axis=1) / np.linalg.norm(reference, axis=1)
