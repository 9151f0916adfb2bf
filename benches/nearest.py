"""The k nearest training images of test images."""

import faiss
import numpy as np
import torch

import mnemo
from clock import header, interleaved, number, once, row
from data import fashion, fashion_test

K = 50
BATCHES = (256, 64, 16)


class Ours:
    name = "mnemo"

    def __init__(self, data):
        self.data = mnemo.Dataset(data.raw, scale=data.scale, shift=data.shift)

    def search(self, x):
        return mnemo.nearest(self.data, x, K)


class Flat:
    """FAISS, brute force: matrix products at any batch size, the block of rows that was fastest."""

    name = "FAISS"

    def __init__(self, data):
        self.index = faiss.IndexFlatL2(data.d)
        self.index.add(data.single)
        faiss.cvar.distance_compute_blas_threshold = 1

    def tune(self, x):
        times = {}
        for rows in (1024, 4096, 16384, 65536):
            faiss.cvar.distance_compute_blas_database_bs = rows
            self.search(x)
            times[rows] = min(once(lambda: self.search(x))[0] for _ in range(2))
        faiss.cvar.distance_compute_blas_database_bs = min(times, key=times.get)
        return faiss.cvar.distance_compute_blas_database_bs

    def search(self, x):
        d2, index = self.index.search(x, K)
        return np.sqrt(d2), index


class Cdist:
    name = "torch cdist"

    def __init__(self, data):
        self.y = torch.from_numpy(data.single)

    def search(self, x):
        distance, index = torch.cdist(torch.from_numpy(x), self.y).topk(K, largest=False)
        return distance.numpy(), index.numpy()


class Product(Cdist):
    """One product and the best of |y|^2 - 2 x.y."""

    name = "torch mm"

    def __init__(self, data):
        super().__init__(data)
        self.squares = (self.y * self.y).sum(1)

    def search(self, x):
        x = torch.from_numpy(x)
        d2, index = torch.addmm(self.squares, x, self.y.T, alpha=-2).topk(K, largest=False)
        return (d2 + (x * x).sum(1, keepdim=True)).clamp_min(0).sqrt().numpy(), index.numpy()


def nearest(options):
    data, images = fashion(), fashion_test()
    ours, flat, *others = contenders = [make(data) for make in (Ours, Flat, Cdist, Product)]
    first, _ = once(lambda: ours.search(images[-256:]))
    second, _ = once(lambda: ours.search(images[-256:]))
    print(f"\n### {K} nearest of {data.n} rows of {data.d}; queries are test images")
    print(f"\nmnemo's first search makes its bounds, once for the data set: about {number(first - second)} ms.")
    header("B", *(f"{c.name} ms" for c in contenders), "best peer / mnemo", "FAISS / mnemo", "FAISS's block", "same rows: FAISS", "cdist", "mm",
           "largest relative error of a distance: mnemo", "FAISS", "cdist", "mm")
    for batch in BATCHES:
        x = images[:batch]
        block = flat.tune(x)
        times = interleaved({c.name: lambda c=c: c.search(x) for c in contenders}, options.runs)
        found = {c.name: c.search(x) for c in contenders}
        index = found["mnemo"][1]
        same, errors = [], []
        for name, (distance, rows) in found.items():
            # Measured again in float64, the rows that each found.
            true = np.stack([np.linalg.norm(x[b].astype(float) - data.double(rows[b]), axis=1) for b in range(batch)])
            errors.append(f"{(np.abs(distance - true) / true).max():.1e}")
            same.append(f"{(rows == index).mean():.4f}")
        best = min(ms for name, ms in times.items() if name != "mnemo")
        row(batch, *times.values(), best / times["mnemo"], times["FAISS"] / times["mnemo"], int(block), *same[1:], *errors)
