"""The decoder of coefficients once more, in plain Python: slow, for small tiles. residual_dct.c has the same names."""

from collections import defaultdict
from math import cos, pi, sqrt

import numpy as np

from residual_reference import RATE, SQUASH, STRETCH, Arithmetic, clamped, class_of, fine_class_of, magnitude_class

INPUTS, LARGEST = 6, 1 << 16
MAP = [SQUASH[clamped((i - 16) * 256, -4095, 4095) + 4096] for i in range(33)]
BASIS = [
    [round(2**13 * (sqrt(1 / 8) if k == 0 else 1 / 2) * cos((2 * n + 1) * k * pi / 16)) for n in range(8)]
    for k in range(8)
]
WEIGHTS = [
    [round(16 * times * (1 + more * ((u * u + v * v) ** 0.5 / 7) ** 0.8)) for v in range(8) for u in range(8)]
    for times, more in ((1, 2.5), (1.8, 5))
]
SCAN = sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))
TO_YCBCR = ((19595, 38470, 7471), (-11058, -21710, 32768), (32768, -27439, -5329))
TO_RGB = ((0, 22970), (-5638, -11700), (29032, 0))


def multiply(matrix, numbers):
    """[x][k]: the sum over n of matrix[k][n] * numbers[n][x], rounded."""
    sums = [[sum(matrix[k][n] * numbers[n][x] for n in range(8)) for k in range(8)] for x in range(8)]
    return [[clamped((value + 4096) >> 13, -LARGEST, LARGEST) for value in row] for row in sums]


def transform(matrix, numbers):
    """Of a list of 64."""
    rows = [numbers[8 * v : 8 * v + 8] for v in range(8)]
    return [value for row in multiply(matrix, multiply(matrix, rows)) for value in row]


class Block:
    def __init__(self):
        self.values, self.count = [0] * 64, 0

    def size(self, v, u):
        """A magnitude; 0 beyond the sides."""
        return min(abs(self.values[8 * v + u]), 1023) if 0 <= v < 8 and 0 <= u < 8 else 0

    def cross(self, v, u):
        beside = self.size(v, u - 1) + self.size(v, u + 1) + self.size(v - 1, u) + self.size(v + 1, u)
        return 4 * self.size(v, u) + beside

    def sign(self, place):
        return (self.values[place] > 0) - (self.values[place] < 0)


class DctDecoder:
    """Everything adaptive is in dictionaries by context, and begins when it is first used."""

    def __init__(self, payload, base, bit_depth, step):
        self.rows, self.columns, self.channels = base.shape
        self.base, self.bit_depth = base.astype(int).tolist(), bit_depth
        self.steps = [[min(step * weight, 1 << 20) for weight in weights] for weights in WEIGHTS]
        self.coder = Arithmetic(payload)
        self.probabilities = defaultdict(lambda: [1 << 21, 0])
        self.mixers = defaultdict(lambda: [65536 * 3 // 2 // INPUTS] * INPUTS)
        self.maps = defaultdict(lambda: list(MAP))
        self.blocks = defaultdict(Block)  # by row, column, channel

    # ---- the base

    def known(self, row, column):
        """The base of a block, transformed: 64 numbers for each channel."""
        places = [(min(8 * row + i // 8, self.rows - 1), min(8 * column + i % 8, self.columns - 1)) for i in range(64)]
        pixels = [[value << 13 >> self.bit_depth for value in self.base[y][x]] for y, x in places]
        if self.channels == 3:
            pixels = [
                [(sum(a * b for a, b in zip(line, pixel, strict=True)) + 32768) >> 16 for line in TO_YCBCR]
                for pixel in pixels
            ]
        return [transform(BASIS, list(channel)) for channel in zip(*pixels, strict=True)]

    def width_of(self, luma):
        found = fine_class_of(sum(map(abs, luma[1:])) >> 9, 30)
        return round(2 ** (8 + found % 16 / 16)) << found // 16

    # ---- decisions

    def decide(self, contexts, mixers, map_, node):
        """As core/mixing.h does."""
        probabilities = [self.probabilities[context, node] for context in contexts]
        weights = [self.mixers[set_, node] for set_ in mixers]
        knots = self.maps[map_, node]
        inputs = [STRETCH[value >> 10] for value, _ in probabilities]
        dots = [sum(w * i for w, i in zip(own, inputs, strict=True)) for own in weights]
        sums = [clamped(dot >> 16, -4095, 4095) for dot in dots]
        mean = sum(sums) >> 1
        knot, beyond = divmod((mean + 4096) * 32, 8192)
        mapped = (knots[knot] * (8192 - beyond) + knots[knot + 1] * beyond) >> 13
        bit = self.coder.bit(clamped((SQUASH[mean + 4096] + mapped + 1) >> 1, 16, 65520))
        target = 65535 if bit else 0
        for own, total in zip(weights, sums, strict=True):
            error = target - SQUASH[total + 4096]
            for i in range(INPUTS):
                own[i] = clamped(own[i] + ((inputs[i] * error + 16384) >> 15), -(1 << 22), 1 << 22)
        for probability in probabilities:
            value, count = probability
            value += (((1 << 22) - 1 if bit else 0) - value) * RATE[count] >> 16
            probability[:] = value, min(count + 1, 255)
        for i in (knot, knot + 1):
            knots[i] += (target - knots[i]) >> 6
        return bit

    def code_count(self, c):
        left, above, corners = self.left.count, self.above.count, self.above_left.count + self.above_right.count
        mean, base = (2 * (left + above) + corners + 3) // 6, sum(value >= 8 for value in self.energy)
        one, two = (self.others[i].count if i < c else 0 for i in (0, 1))
        places = (
            (mean // 2, class_of(two, 7)),
            (left // 4, above // 4),
            (base // 2, class_of(one, 7)),
            (base // 4, mean // 4),
            (one // 4, two // 4),
            (mean // 10, one // 10, base // 10),
        )
        contexts = [("count", c, i, place) for i, place in enumerate(places)]
        chosen = contexts, [("count", c, 0, mean // 5), ("count", c, 1, base // 5)], ("count", c)
        if self.decide(*chosen, 0):
            return 0
        node = 1
        for _ in range(6):
            node = 2 * node + self.decide(*chosen, node)
        return node - 63

    def code_magnitude(self, chosen, most):
        found = place = 0
        while found < magnitude_class(most) and self.decide(*chosen, 1 + min(found, 6)):
            found += 1
        bits = max(found - 1, 0)
        for above in range(bits):
            node = (8 + min(found - 2, 5), 14, 15)[min(above, 2)]
            place = 2 * place + self.decide(*chosen, node)
        return place + (1 + (1 << bits) if found else 1)

    def code_sign(self, c, place, size):
        energy, zone = class_of(self.energy[place], 7), min(place // 8 + place % 8, 7)
        base = 7 - energy if self.numbers[place] < 0 else 8 + energy
        around = self.left.sign(place), self.above.sign(place)
        others = tuple(self.others[i].sign(place) if i < c else 0 for i in (0, 1))
        places = (
            (place, base),
            (place, around),
            (place, others),
            (base, around),
            (base, others),
            (base, min(size, 7), zone // 2),
        )
        contexts = [("sign", c, i, key) for i, key in enumerate(places)]
        return self.decide(contexts, [("sign", c, 0), ("sign", c, 1)], ("sign", c), 0)

    def contexts_of(self, c, own, place, left, places):
        v, u = divmod(place, 8)
        zone = min(u + v, 7)
        within = 3 * (own.size(v, u - 1) + own.size(v - 1, u)) + own.size(v, u - 2) + own.size(v - 2, u)
        within += 2 * (own.size(v - 1, u - 1) + own.size(v - 1, u + 1) + own.size(v + 1, u - 1))
        near = 2 * (self.left.cross(v, u) + self.above.cross(v, u))
        near += self.above_left.cross(v, u) + self.above_right.cross(v, u)
        other = sum(block.cross(v, u) for block in self.others)
        expected = 4 * within + (1 if within else 2) * near + 2 * other
        ratio = class_of(32 * left // places, 15)
        keys = (
            (place, class_of(left, 15)),
            (zone, fine_class_of(near // 2, 63)),
            (zone, fine_class_of(within, 63)),
            (place, class_of(self.energy[place], 15)),
            (class_of(within, 15), class_of(near // 3, 15) // 2, class_of(other, 7)),
            (ratio, fine_class_of(expected, 63)),
        )
        contexts = [(c, i, key) for i, key in enumerate(keys)]
        return contexts, [(c, 0, zone), (c, 1, fine_class_of(expected // 2, 31) // 2)], (c, ratio)

    # ---- a block

    def decode_block(self, row, column, c, numbers):
        """numbers: the base's."""
        around = ((row, column - 1), (row - 1, column), (row - 1, column - 1), (row - 1, column + 1))
        self.left, self.above, self.above_left, self.above_right = (self.blocks[y, x, c] for y, x in around)
        self.others = [self.blocks[row, column, other] for other in range(c)]
        steps = self.steps[c > 0]
        sizes = [(abs(numbers[1]) + abs(numbers[8])) // 2, *map(abs, numbers[1:])]
        self.energy = [size * (2**18 // step) >> 12 for size, step in zip(sizes, steps, strict=True)]
        self.numbers, own = numbers, self.blocks[row, column, c]
        own.count = left = self.code_count(c)
        for i, place in enumerate(SCAN):
            if not left:
                break
            chosen = self.contexts_of(c, own, place, left, 64 - i)
            if left < 64 - i and self.decide(*chosen, 0):
                continue
            size = self.code_magnitude(chosen, 8 * LARGEST // steps[place] + 1)
            own.values[place] = -size if self.code_sign(c, place, size) else size
            left -= 1
        return own.values

    def dequantised(self, values, steps, width):
        made = []
        for value, step in zip(values, steps, strict=True):
            parts = max(abs(value) * 64 - 4, 0) * max((step * width + 1024) >> 11, 1) >> 6
            made.append(min(parts, LARGEST) * (-1 if value < 0 else 1))
        return made

    def decode(self):
        pixels, peak = np.array(self.base), (1 << self.bit_depth) - 1
        inverse = [list(column) for column in zip(*BASIS, strict=True)]
        for row in range(-(-self.rows // 8)):
            for column in range(-(-self.columns // 8)):
                known = self.known(row, column)
                width, added = self.width_of(known[0]), []
                for c in range(self.channels):
                    values = self.decode_block(row, column, c, known[c])
                    added.append(transform(inverse, self.dequantised(values, self.steps[c > 0], width)))
                if self.channels == 3:
                    luma, blue, red = added
                    added = [
                        [
                            y + ((b * line[0] + r * line[1] + 8192) >> 14)
                            for y, b, r in zip(luma, blue, red, strict=True)
                        ]
                        for line in TO_RGB
                    ]
                for i in range(64):
                    y, x = 8 * row + i // 8, 8 * column + i % 8
                    if y < self.rows and x < self.columns:
                        for c in range(self.channels):
                            more = (2 * added[c][i] << self.bit_depth >> 13) + 1 >> 1
                            pixels[y, x, c] = clamped(self.base[y][x][c] + more, 0, peak)
        return pixels


def decode_dct_plainly(payload: bytes, base: np.ndarray, bit_depth: int, step: int) -> np.ndarray:
    """The samples of a payload that a decoder doesn't refuse, as `decode_dct` gives them."""
    return DctDecoder(payload, base, bit_depth, step).decode().astype(base.dtype)
