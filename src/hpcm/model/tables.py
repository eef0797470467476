"""From a probability distribution to integer frequency tables.

The latents' distribution is the generalised Gaussian of shape beta = 1.5 around zero (the mean is subtracted before):

    CDF(v) = (1 + sign(v) P(1 / beta, |v / scale|^beta)) / 2       P: regularised lower incomplete gamma function
    p(s)   = CDF(s + 1/2) - CDF(s - 1/2)                           probability of the integer symbol s

Floats differ between machines and an entropy decoder must not, so the distribution is turned into integers once, when a
model is made. The integers travel with the weights; coding never evaluates the distribution again.

Table t of T serves all scales in (scales[t - 1], scales[t]] and is made at their geometric mean; the first also serves
every smaller scale, the last every larger one. It codes the symbols -radius..radius, and an *escape* for everything
beyond, which has a total probability of at most 1e-6. Its 2 * radius + 2 frequencies are integers >= 1 that add up to
2^16:

    symbol        -radius  ...  -1   0   1  ...  radius  escape
    frequency       f_r    ...  f_1 f_0 f_1  ...   f_r       1      (scale 0.12: radius 1, frequencies 2 65531 2 1)

Shapes: T is the number of tables (60 by default, at most 256, so that an index fits a byte).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import WeightsError

SHAPE = 1.5  # beta
TAIL = 1e-6  # the largest probability of an escape
TOTAL = 1 << 16  # sum of a table's frequencies
MAX_TABLES = 256  # an index is a uint8
MAX_RADIUS = TOTAL // 2 - 1  # 2 * radius + 2 frequencies >= 1 must fit into TOTAL
MAX_SCALE = 4096.0  # keeps the radius (about 5.3 scales) below MAX_RADIUS
LENGTH_BITS = 5  # of an escape: how many digits its distance has
REACH = 12.0  # scales; beyond it the distribution holds less than 1e-18
DEFAULT_SCALES = np.geomspace(0.12, 64.0, 60).astype(np.float32)

_NORM = 2.0 * math.gamma(1.0 + 1.0 / SHAPE)  # integral of exp(-|t|^beta) over all t
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)  # of the quadrature, on -1..1


@dataclass(frozen=True, eq=False)
class Tables:
    """Integer frequency tables, one after another. Treat the arrays as read-only: coders cache what they make of them.

    Tables compare and hash by identity.
    """

    scales: NDArray[np.float32]  # [T] ascending: table t serves scales in (scales[t - 1], scales[t]]
    radius: NDArray[np.int32]  # [T]: table t codes the symbols -radius..radius, and an escape
    frequencies: NDArray[np.int32]  # [sum(2 * radius + 2)], tables one after another, escape last; each adds up to 2^16

    def index(self, scale: ArrayLike) -> NDArray[np.uint8]:
        """Number of the table for each scale: how many of the first T - 1 entries of `scales` are smaller.

        Any shape in, the same shape out. Only comparisons, so equal scales give equal tables everywhere.
        """
        return np.searchsorted(self.scales[:-1], scale, side="left").astype(np.uint8)

    def bits(self, symbols: ArrayLike, scale: ArrayLike) -> NDArray[np.float64]:
        """What the entropy coder takes for each symbol (core/ans.c), in bits; the two shapes are alike."""
        symbols, index = np.asarray(symbols, np.int64), self.index(scale).astype(np.int64)
        begins = np.cumsum(2 * self.radius + 2) - (2 * self.radius + 2)
        radius = self.radius[index]
        beyond = np.abs(symbols) - radius
        code = np.where(beyond > 0, 2 * radius + 1, symbols + radius)
        result = math.log2(TOTAL) - np.log2(self.frequencies[begins[index] + code])
        excess = 2 * beyond + (symbols < 0)  # of escapes: its length and its digits after the first
        return np.where(beyond > 0, result + LENGTH_BITS + np.floor(np.log2(np.maximum(excess, 2))), result)

    def split(self) -> list[NDArray[np.int32]]:
        """The frequencies of each table: T arrays of 2 * radius + 2 entries, escape last."""
        return np.split(self.frequencies, np.cumsum(2 * self.radius + 2)[:-1])

    def check(self) -> None:
        """Raise WeightsError unless the arrays, which may come from a file, are tables that a coder can use."""
        for name, dtype in (("scales", np.float32), ("radius", np.int32), ("frequencies", np.int32)):
            array = getattr(self, name)
            found = f"{array.dtype} with {array.ndim} dimensions"
            fits = array.ndim == 1 and array.dtype == dtype
            _expect(fits, f"{name} must be {np.dtype(dtype)} with 1 dimension, found {found}")
        count = len(self.scales)
        _expect(1 <= count <= MAX_TABLES, f"1 to {MAX_TABLES} tables are allowed, found {count}")
        _expect(_ascending(self.scales), "scales must be positive, finite and ascending")
        bounded = len(self.radius) == count and self.radius.min() >= 0 and self.radius.max() <= MAX_RADIUS
        _expect(bounded, f"radius must hold {count} numbers in 0..{MAX_RADIUS}")
        size = int((2 * self.radius + 2).sum(dtype=np.int64))
        _expect(len(self.frequencies) == size, f"{size} frequencies expected, found {len(self.frequencies)}")
        least = self.frequencies.min()
        _expect(least >= 1, f"frequencies must be at least 1, found {least}")
        for t, table in enumerate(self.split()):
            total = table.sum(dtype=np.int64)
            _expect(total == TOTAL, f"the frequencies of table {t} do not add up to {TOTAL}")


def _expect(fulfilled: bool | np.bool_, what: str) -> None:
    """Raises WeightsError."""
    if not fulfilled:
        raise WeightsError(f"entropy tables: {what}")


def make_tables(scales: ArrayLike = DEFAULT_SCALES) -> Tables:
    """Tables of the generalised Gaussian for ascending `scales` [T], at most 256 of them, in symbols, up to 4096.

    Raises ValueError for other scales.
    """
    scales = np.array(scales, np.float32)
    if scales.ndim != 1 or not 1 <= len(scales) <= MAX_TABLES or not _ascending(scales) or scales[-1] > MAX_SCALE:
        raise ValueError(f"scales must be 1 to {MAX_TABLES} ascending numbers in 0..{MAX_SCALE:g}")
    tables = [_frequencies(float(scale)) for scale in representatives(scales)]
    radius = np.array([len(table) // 2 - 1 for table in tables], np.int32)
    return Tables(scales, radius, np.concatenate(tables))


def representatives(scales: NDArray[np.float32]) -> NDArray[np.float64]:
    """The scale [T] whose distribution each table holds: the geometric mean of what it serves.

    The first and the last table, which serve an open range, keep their own. Against tables made at the upper end of
    their range this saves 0.05 to 0.2% of the rate.
    """
    chosen = scales.astype(np.float64)
    chosen[1:-1] = np.sqrt(chosen[:-2] * chosen[1:-1])
    return chosen


def probability(symbol: ArrayLike, scale: ArrayLike) -> NDArray[np.float64]:
    """p(s) of integer symbols under the generalised Gaussian, to about 1e-14; the two shapes broadcast.

    The density's second derivative is infinite at zero, which spoils quadrature; with v / scale = u^2 it turns into
    2 u exp(-u^3), which is smooth, and one Gauss-Legendre rule from edge to edge of the symbol's bin is enough.
    """
    distance, scale = np.abs(np.asarray(symbol, np.float64)), np.asarray(scale, np.float64)
    reach = math.sqrt(REACH)
    low = np.minimum(np.sqrt(np.maximum(distance - 0.5, 0.0) / scale), reach)
    high = np.minimum(np.sqrt((distance + 0.5) / scale), reach)
    half = (high - low) / 2.0
    u = (low + high)[..., None] / 2.0 + half[..., None] * _NODES  # [..., nodes]
    integral = half * ((2.0 * u * np.exp(-(u ** (2.0 * SHAPE)))) @ _WEIGHTS)
    return integral * np.where(distance == 0, 2.0, 1.0) / _NORM  # bin 0 has a left half too


def _frequencies(scale: float) -> NDArray[np.int32]:
    """The table of one scale: int32 [2 * radius + 2] for -radius..radius and the escape."""
    p = probability(np.arange(math.ceil(REACH * scale) + 1), scale)  # symbols 0, 1, 2, ...
    tail = 2.0 * (np.cumsum(p[::-1])[::-1] - p)  # tail[r]: probability of all symbols beyond -r..r, smallest first
    radius = int(np.argmax(tail <= TAIL))
    half = _round(np.append(p[: radius + 1], tail[radius]))  # 0..radius and the escape
    return np.concatenate([half[radius:0:-1], half])


def _round(p: NDArray[np.float64]) -> NDArray[np.int32]:
    """Frequencies >= 1 of the shortest expected code for probabilities `p` of the symbols 0..r and the escape, [r + 2].

    Raising a frequency from f to f + 1 saves p ln(1 + 1/f) nats; the best integers are those where no step that saves
    more than some threshold is left out, and the threshold is the one at which the frequencies add up to 2^16. Symbols
    other than 0 count twice in the sum, for s and -s. What a last pair cannot use goes to symbol 0.
    """
    times = np.full(len(p), 2.0)
    times[[0, -1]] = 1.0
    best = np.ones(len(p))
    low, high = 0.0, 1.0  # thresholds: too many steps, too few
    for _ in range(64):  # down to the precision of a float
        middle = (low + high) / 2.0
        with np.errstate(over="ignore", divide="ignore"):
            frequencies = np.minimum(np.floor(1.0 / np.expm1(middle / p)) + 1.0, TOTAL)
        if times @ frequencies > TOTAL:
            low = middle
        else:
            high, best = middle, frequencies
    best[0] += TOTAL - times @ best
    return best.astype(np.int32)


def _ascending(scales: NDArray[np.float32]) -> bool:
    """Whether all scales are positive, finite and larger than the one before."""
    return bool(scales[0] > 0 and np.isfinite(scales[-1]) and (np.diff(scales) > 0).all())
