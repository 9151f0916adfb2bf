"""Ways to the same result in PyTorch, and float64 references.

Keys are rows extended by -|y|^2 / 2, queries by 1, so that one product gives x.y - |y|^2 / 2: logits, but for a number of the
query's own and a factor 1 / sigma^2. Where products have few digits the norm is cut into three columns that add up to it.
Columns are padded to a multiple of 8. Queries go in blocks that keep the logits within LOGITS bytes.
"""

import math

import torch

LOGITS = 2 << 30


def extended(data, dtype, pieces):
    """[N, d + padding] of `dtype`: rows, the pieces of -|y|^2 / 2, zeros."""
    keys = torch.zeros(data.n, -(-(data.d + pieces) // 8) * 8, dtype=dtype, device=data.raw.device)
    for where, block in data.blocks():
        keys[where, : data.d] = block.to(dtype)
        rest = -0.5 * (block * block).sum(1)
        for piece in range(pieces):
            part = rest if piece == pieces - 1 else rest.to(torch.bfloat16).double()
            keys[where, data.d + piece] = part.to(dtype)
            rest = rest - part
    return keys


class Products:
    """Two matrix products and a softmax between them."""

    def __init__(self, name, data, dtype, tf32=False):
        self.name, self.data, self.dtype, self.tf32 = name, data, dtype, tf32
        self.pieces = 3 if tf32 or dtype == torch.bfloat16 else 1
        self.keys = extended(data, dtype, self.pieces)
        self.nothing = torch.zeros((), dtype=dtype, device=data.raw.device)
        self.wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.queries = max(1, LOGITS // (data.n * self.keys.element_size()))

    def extend(self, x):
        q = torch.zeros(len(x), self.keys.shape[1], dtype=self.dtype, device=x.device)
        q[:, : self.data.d] = x
        q[:, self.data.d : self.data.d + self.pieces] = 1
        return q

    def logits(self, x, factor):
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        return torch.addmm(self.nothing, self.extend(x), self.keys.T, beta=0, alpha=factor)

    def mean(self, x, factor):
        """Of the rows, weighted."""
        weights = torch.softmax(self.logits(x, factor), 1)
        return torch.mm(weights, self.keys)[:, : self.data.d]

    def score(self, x, sigma):
        factor = 1 / sigma**2
        parts = [(self.mean(part, factor).to(self.wide) - part) * factor for part in x.split(self.queries)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def log_density(self, x, sigma):
        """Of a few queries."""
        sums = torch.logsumexp(self.logits(x, 1 / sigma**2).double(), 1)
        return self.to_log_density(sums - 0.5 * x.double().square().sum(1) / sigma**2, sigma)

    def to_log_density(self, log_sum, sigma):
        return log_sum - math.log(self.data.n) - 0.5 * self.data.d * math.log(2 * math.pi * sigma**2)

    def nearest(self, x, k):
        found = [self.nearest_of(part, k) for part in x.split(self.queries)]
        return tuple(torch.cat(parts) for parts in zip(*found))

    def nearest_of(self, x, k):
        best, index = torch.topk(self.logits(x, 1.0), k)
        squares = x.to(self.wide).square().sum(1, keepdim=True) - 2 * best.to(self.wide)
        return squares.clamp_min(0).sqrt(), index


class Distances(Products):
    """torch.cdist in place of the first product."""

    def __init__(self, name, data):
        super().__init__(name, data, torch.float32)
        self.rows = self.keys[:, : data.d].contiguous()

    def distances(self, x):
        torch.backends.cuda.matmul.allow_tf32 = False
        return torch.cdist(x, self.rows)

    def mean(self, x, factor):
        weights = torch.softmax(self.distances(x).square_().mul_(-0.5 * factor), 1)
        return torch.mm(weights, self.rows)

    def log_density(self, x, sigma):
        return self.to_log_density(torch.logsumexp(-0.5 * self.distances(x).double().square() / sigma**2, 1), sigma)

    def nearest_of(self, x, k):
        return torch.topk(self.distances(x), k, largest=False)


class Attention(Products):
    """PyTorch's scaled dot product attention, by a kernel that does not keep the logits."""

    # What fused kernels take.
    MOST = 256

    def __init__(self, name, data, dtype):
        super().__init__(name, data, dtype)
        self.fused = [torch.nn.attention.SDPBackend.FLASH_ATTENTION, torch.nn.attention.SDPBackend.EFFICIENT_ATTENTION,
                      torch.nn.attention.SDPBackend.CUDNN_ATTENTION]

    def score(self, x, sigma):
        torch.backends.cuda.matmul.allow_tf32 = False
        q, keys = self.extend(x)[None, None], self.keys[None, None]
        with torch.nn.attention.sdpa_kernel(self.fused):
            mean = torch.nn.functional.scaled_dot_product_attention(q, keys, keys, scale=1 / sigma**2)
        return (mean[0, 0, :, : self.data.d].float() - x) / sigma**2


def products(data):
    return [
        Products("fp64", data, torch.float64),
        Products("fp32", data, torch.float32),
        Products("TF32", data, torch.float32, tf32=True),
        Products("bf16", data, torch.bfloat16),
        Distances("cdist", data),
    ]


PRODUCTS = ("fp64", "fp32", "TF32", "bf16", "cdist")
ATTENTION = ("SDPA fp32", "SDPA bf16")


def scores(data):
    """All ways to a score."""
    made = products(data)
    for name, dtype in zip(ATTENTION, (torch.float32, torch.bfloat16)):
        if data.d + 3 <= Attention.MOST:
            made.append(Attention(name, data, dtype))
    return made


# ----- References ---------------------------------------------------------------------------------------------------------------


def squares(data, x):
    """|x - y|^2 by differences, in float64: [queries, N]."""
    out = torch.empty(len(x), data.n, dtype=torch.float64, device=x.device)
    for where, block in data.blocks():
        for query in range(len(x)):
            out[query, where] = (block - x[query]).square_().sum(1)
    return out


def exact_score(data, x, sigma):
    """The score and ln p, in float64."""
    x = x.double()
    logits = -0.5 * squares(data, x) / sigma**2
    top = logits.amax(1, keepdim=True)
    weights = torch.exp(logits - top)
    total = weights.sum(1, keepdim=True)
    weights /= total
    # About x, so that nothing cancels.
    offset = torch.zeros_like(x)
    for where, block in data.blocks():
        for query in range(len(x)):
            offset[query] += weights[query, where] @ (block - x[query])
    log_sum = (top + torch.log(total))[:, 0]
    return offset / sigma**2, log_sum - math.log(data.n) - 0.5 * data.d * math.log(2 * math.pi * sigma**2)


def score_errors(found, reference):
    """(median, largest) relative L2 error of the rows."""
    lengths = lambda m: torch.linalg.vector_norm(m, dim=1)
    errors = lengths(found.double() - reference) / lengths(reference)
    return errors.median().item(), errors.max().item()
