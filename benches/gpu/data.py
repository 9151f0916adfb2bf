"""Data sets on the device, and the queries that are asked of them."""

import gzip
import math
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
FASHION = HERE / "train-images-idx3-ubyte.gz"
# Numbers of a block of rows that are looked at in float64 at a time.
BLOCK = 1 << 23


class Data:
    """Rows as they are stored; value = scale * raw + shift."""

    def __init__(self, name, raw, scale=1.0, shift=0.0, about=""):
        self.name, self.raw, self.scale, self.shift, self.about = name, raw, scale, shift, about
        self.n, self.d = raw.shape
        self.row_bytes = self.d * raw.element_size()
        self.dtype = {torch.uint8: "u8", torch.float32: "f32"}[raw.dtype]

    def double(self, rows):
        """Some rows in float64, each value rounded as the library does."""
        return self.raw[rows].double().mul_(self.scale).add_(self.shift)

    def blocks(self):
        """All rows in float64, some at a time, and where they are."""
        step = max(1, BLOCK // self.d)
        for at in range(0, self.n, step):
            where = slice(at, min(at + step, self.n))
            yield where, self.double(where)

    def noised(self, batch, sigma, seed=0):
        """Noised rows, float32."""
        random = generator(self.raw.device, 1000 * seed + int(100 * sigma))
        rows = torch.randint(self.n, (batch,), generator=random, device=self.raw.device)
        noise = torch.randn(batch, self.d, generator=random, device=self.raw.device)
        return (self.double(rows) + sigma * noise.double()).float()


def generator(device, seed):
    return torch.Generator(device).manual_seed(seed)


def waves(n, side, channels, device, noise=0.05, count=8):
    """Images: sums of products of cosines of up to `count` - 1 half-waves along x and y, with normal heights that fall with the
    frequency, and a little white noise. Their rank is count^2 channels, but for the noise."""
    random = generator(device, 1)
    i = torch.arange(count, device=device, dtype=torch.float32)
    place = (torch.arange(side, device=device, dtype=torch.float32) + 0.5) / side
    wave = torch.cos(math.pi * i[:, None] * place[None])
    basis = torch.einsum("ix,jy->ijxy", wave, wave).reshape(count * count, side * side)
    height = (0.25 / torch.sqrt(1 + i[:, None] ** 2 + i[None] ** 2)).reshape(-1)
    y = torch.randn(n, channels, side * side, generator=random, device=device).mul_(noise)
    for channel in range(channels):
        y[:, channel] += (torch.randn(n, count * count, generator=random, device=device) * height) @ basis
    return y.reshape(n, -1)


def images(device, small):
    """60000 images of 784 pixels of 8 bits, to be taken as [-1, 1]."""
    if FASHION.exists() and not small:
        with gzip.open(FASHION) as f:
            raw = torch.frombuffer(bytearray(f.read()[16:]), dtype=torch.uint8).reshape(-1, 784)
        return Data("Fashion-MNIST", raw.to(device), 1 / 127.5, -1.0)
    y = waves(*((240, 6) if small else (60000, 28)), 1, device, count=4 if small else 8)
    raw = (127.5 * (y + 1)).round_().clamp_(0, 255).to(torch.uint8)
    about = "made images of 8 bits, sums of a few waves and noise, of rank 64: Fashion-MNIST was not carried along"
    return Data("made images", raw, 1 / 127.5, -1.0, about)


def widened(data):
    """The same values as float32 numbers."""
    raw = torch.cat([block.float() for _, block in data.blocks()])
    return Data(data.name, raw)


def synthetic(device, small):
    shape = (150, 4) if small else (50000, 32)
    about = "made images of three colours, float32, sums of a few waves and noise, of rank 192"
    return Data("synthetic", waves(*shape, 3, device, count=4 if small else 8), about=about)


def latents(device, small):
    n, d = (500, 16) if small else (1000000, 64)
    y = torch.randn(n, d, generator=generator(device, 2), device=device)
    fall = 1 / torch.sqrt(1 + torch.arange(d, device=device, dtype=torch.float32))
    return Data("latents", y * fall, about="normal numbers whose standard deviation falls as 1/sqrt(1 + column)")


def plane(n, device):
    return Data("plane", torch.randn(n, 2, generator=generator(device, 3), device=device), about="normal points of the plane")
