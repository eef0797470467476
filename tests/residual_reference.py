"""The decoder of residuals once more, in plain Python: slow, for small tiles. core/residual.c has the same names.

Python's >> rounds down, as the stream asks for; where the stream rounds towards zero, `toward_zero` does.
"""

from collections import defaultdict

import numpy as np

PAD, BLOCK, INPUTS, CANDIDATES, NODES = 2, 16, 6, 5, 64
ORDER = (1, 0, 2)  # green, red, blue
WORD = (1 << 64) - 1

SQUASH = [0] * 8192
_power = 1 << 40
for _i in range(4096):
    _value = min((1 << 56) // ((1 << 40) + _power), 65535)
    SQUASH[4096 + _i] = _value
    SQUASH[4096 - _i] = (65536 - _value) & 65535
    _power = (_power >> 8) * 0xFF007F >> 16
SQUASH[0] = SQUASH[1]
STRETCH = []
_x = 0
for _i in range(4096):
    while _x < 8191 and SQUASH[_x] < 16 * _i + 8:
        _x += 1
    STRETCH.append(_x - 4096)
RATE = [131072 // (2 * n + 3) for n in range(256)]
MAP = [SQUASH[min(max((i - 16) * 256, -4095), 4095) + 4096] for i in range(33)]


def clamped(value, low, high):
    return min(max(value, low), high)


def toward_zero(value, divisor):
    return value // divisor if value >= 0 else -(-value // divisor)


def class_of(value, most):
    log = (value + 2).bit_length() - 1
    return min(2 * log - 2 + ((value + 2) >> (log - 1) & 1), most)


def fine_class_of(value, most):
    log = (value + 4).bit_length() - 1
    return min(4 * log - 8 + ((value + 4) >> (log - 2) & 3), most)


def signed_class(value, shift, most):
    found = class_of(abs(value) >> shift, most)
    return most - found if value < 0 else most + found


def magnitude_class(value):
    return 0 if value < 2 else (value - 1).bit_length()


class Arithmetic:
    def __init__(self, payload):
        self.payload, self.next, self.range, self.code = payload, 1, 2**32 - 1, 0
        for _ in range(4):
            self.code = self.code << 8 | self.byte()

    def byte(self):
        self.next += 1
        return self.payload[self.next - 1] if self.next <= len(self.payload) else 0

    def bit(self, probability):
        bound = (self.range >> 16) * probability
        bit = self.code < bound
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        while self.range < 1 << 24:
            self.range <<= 8
            self.code = self.code << 8 | self.byte()
        return int(bit)


class Decoder:
    """Everything adaptive is in dictionaries by context, and begins when it is first used."""

    def __init__(self, payload, base, bit_depth, max_error):
        self.rows, self.columns, self.channels = base.shape
        self.base = base.astype(int).tolist()
        self.step, self.peak = 2 * max_error + 1, (1 << bit_depth) - 1
        self.feature_shift, self.class_shift = max(bit_depth - 9, 0), (bit_depth - 8) // 2
        self.coder, self.copies = Arithmetic(payload), payload[0]
        self.samples = np.zeros(base.shape, int).tolist()
        self.errors = np.zeros(base.shape, int).tolist()
        self.probabilities = defaultdict(lambda: [1 << 21, 0])
        self.mixers = defaultdict(lambda: [65536 * 3 // 2 // INPUTS] * INPUTS)
        self.maps = defaultdict(lambda: list(MAP))
        self.biases = defaultdict(lambda: [0, 0])
        self.sums = defaultdict(lambda: [[0] * 32 for _ in range(32)])
        self.weights = {}
        self.followed, self.confidence = defaultdict(int), defaultdict(int)
        self.copied, self.history = defaultdict(int), 0

    # ---- places: beyond the sides is the first or last sample of the row

    def b(self, y, x, c):
        return self.base[clamped(y, 0, self.rows - 1)][clamped(x, 0, self.columns - 1)][c]

    def sample(self, y, x, c, here):
        if y < 0:
            return self.b(0, x, c)
        if x < 0 and y == here:
            return self.sample(y - 1, 0, c, here)
        return self.samples[y][clamped(x, 0, self.columns - 1)][c]

    def error(self, y, x, c, here):
        if y < 0:
            return 0
        if x < 0 and y == here:
            return self.error(y - 1, 0, c, here)
        return self.errors[y][clamped(x, 0, self.columns - 1)][c]

    # ---- a decision

    def decide(self, contexts, mixers, map_, node):
        probabilities = [self.probabilities[context, node] for context in contexts]
        weights = [self.mixers[set_, node] for set_ in mixers]
        knots = self.maps[map_, node]
        inputs = [STRETCH[value >> 10] for value, _ in probabilities]
        dots = [sum(w * i for w, i in zip(own, inputs, strict=True)) for own in weights]
        sums = [clamped(dot >> 16, -4095, 4095) for dot in dots]
        mean = sum(sums) >> 1
        place = (mean + 4096) * 32
        knot, beyond = place >> 13, place & 8191
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

    def code_error(self, chosen, most):
        if self.decide(*chosen, 0):
            return 0
        negative, found = self.decide(*chosen, 1), 0
        while found < magnitude_class(most) and self.decide(*chosen, 2 + found):
            found += 1
        bits = max(found - 1, 0)
        begin, place = (1 + (1 << bits) if found else 1), 0
        for above in range(bits):
            node = 60 + min(above - 2, 3)
            if above == 0:
                node = 20 + found - 2
            if above == 1:
                node = 36 + 2 * min(found - 3, 11) + place
            place = 2 * place + self.decide(*chosen, node)
        return -(begin + place) if negative else begin + place

    # ---- a sample

    def features_of(self, y, x, turn):
        c = 0 if self.channels == 1 else ORDER[turn]

        def s(dy, dx, channel=c):
            return self.sample(y + dy, x + dx, channel, y)

        twice = s(0, -1) + s(-1, 0)
        around = [s(-1, -1), s(-1, 1), s(0, -2), s(-2, 0), s(-2, 1), s(-2, -1), s(-1, 2), s(-1, -2)]
        around += [self.b(y + dy, x + dx, c) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        features = [s(0, -1) - s(-1, 0)] + [2 * value - twice for value in around]
        for other in ORDER[:turn]:
            sum_ = s(0, -1, other) + s(-1, 0, other)
            features += [2 * s(0, 0, other) - sum_, s(0, -1, other) - s(-1, 0, other)]
            values = (s(-1, -1, other), s(-1, 1, other), self.b(y, x, other))
            features += [2 * value - sum_ for value in values]
        return twice, features

    def solve(self, c, block, count):
        last = (self.columns - 1) // BLOCK
        own, left, right = (self.sums[c, i] for i in (block, max(block - 1, 0), min(block + 1, last)))
        scaled = [[0] * 32 for _ in range(32)]
        lower, inverse, most = [[0] * 32 for _ in range(32)], [0] * 32, 1
        for i in range(count + 1):
            for j in range(i + 1):
                scaled[i][j] = 2 * own[j][i] + left[j][i] + right[j][i]
            if i < count:
                scaled[i][i] += 1024 + (scaled[i][i] >> 12)
            most = max(most, scaled[i][i])
        up = down = 0
        while most << up < 1 << 29:
            up += 1
        while most >> down >= 1 << 30:
            down += 1
        for i in range(count + 1):
            for j in range(min(i, count - 1) + 1):
                value = (scaled[i][j] << up >> down) - (sum(scaled[i][q] * lower[j][q] for q in range(j)) >> 18)
                value = clamped(value, -(1 << 31), 1 << 31)
                if i == j:
                    value = max(value, 1 << 16)
                    inverse[i] = (1 << 46) // value
                else:
                    lower[i][j] = clamped(value * inverse[j] >> 28, -(1 << 26), 1 << 26)
                scaled[i][j] = value
        weights = [0] * count
        for i in reversed(range(count)):
            total = lower[count][i] * 65536 - sum(lower[j][i] * weights[j] for j in range(i + 1, count))
            weights[i] = clamped(total >> 18, -(1 << 21), 1 << 21)
        self.weights[c, block] = weights

    def learn_moments(self, c, block, features, target, activity):
        shift = self.feature_shift
        f = [clamped(value >> shift, -2047, 2047) for value in (*features, target)]
        weight = (64 << 8) // (64 + (activity >> shift) // 2)
        weight = max(min(weight, 65520 // (max(map(abs, f)) + 1)), 1)
        weighted = [(value * weight + 8) >> 4 for value in f]
        for i in range(len(f)):
            for j in range(i, len(f)):
                self.sums[c, block][i][j] += weighted[i] * f[j]

    def code_sample(self, y, x, turn):
        c, block, highest, shift = (
            0 if self.channels == 1 else ORDER[turn],
            x // BLOCK,
            16 * self.peak,
            self.class_shift,
        )

        def s(dy, dx):
            return self.sample(y + dy, x + dx, c, y)

        def e(dy, dx):
            return self.error(y + dy, x + dx, c, y)

        def a(dy, dx):
            return abs(e(dy, dx))

        twice, features = self.features_of(y, x, turn)
        if (c, block) not in self.weights:
            self.solve(c, block, len(features))
        W, N, NW, base = s(0, -1), s(-1, 0), s(-1, -1), self.b(y, x, c)
        products = sum(w * f for w, f in zip(self.weights[c, block], features, strict=True))
        linear = clamped(8 * twice + (products >> 13), 0, highest)
        median = 16 * clamped(W + N - NW, min(W, N), max(W, N))
        misses = [s(dy, dx) - self.b(y + dy, x + dx, c) for dy, dx in ((0, -1), (-1, -1), (-1, 0), (-1, 1))]
        by_base = clamped(16 * base + 4 * sum(misses), 0, highest)
        activity = 6 * (a(0, -1) + a(-1, 0)) + 3 * (a(-1, -1) + a(-1, 1)) + 2 * (a(0, -2) + a(-2, 0) + a(-1, 2))
        before = [self.errors[y][x][other] for other in ORDER[:turn]] + [0] * (2 - turn)

        level = linear >> 4
        ones = sum((v > level) << i for i, v in enumerate((W, N, NW, s(-1, 1), s(0, -2), s(-2, 0), base)))
        pairs = (
            (e(0, -1), e(-1, 0), 1, 8),
            (*before, 1, 10),
            (by_base - linear, median - linear, 2, 12),
        )
        places = [(c, 0, ones * 8 + class_of(activity >> (5 + shift), 15) // 2)]
        for i, (one, two, more, most) in enumerate(pairs):
            places.append((c, i + 1, (signed_class(one, more + shift, most), signed_class(two, more + shift, most))))
        biases = [self.biases[place] for place in places]
        predicted = clamped(linear + (sum(mean for mean, _ in biases) >> 8), 0, highest)
        rounded, phase = (predicted + 8) >> 4, (predicted + 8) & 15

        nearby = [self.b(y + dy, x + dx, c) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        contrast, distance = max(nearby) - min(nearby), sum(map(abs, misses))
        corners = a(-1, 1) + a(-1, -1)
        outer = corners + a(-1, 2) + a(0, -2) + a(-2, 0)
        others = [abs(value) for value in before]
        expected = activity + 8 * sum(others)
        for _ in range(turn):
            expected = expected * 3 >> 2
        contexts = (
            (fine_class_of(activity >> (4 + shift), 63), phase),
            (class_of(contrast >> shift, 31), class_of(activity >> (5 + shift), 31)),
            (signed_class(e(0, -1), 3 + shift, 15), signed_class(e(-1, 0), 3 + shift, 15)),
            (signed_class(by_base - predicted, 3 + shift, 15), signed_class(median - predicted, 3 + shift, 15)),
            (class_of(distance >> shift, 31), class_of(corners >> (3 + shift), 31)),
            (class_of(outer >> (4 + shift), 31), class_of(max(others) >> (3 + shift), 31)),
        )
        chosen = (
            [(c, i, context) for i, context in enumerate(contexts)],
            [(c, 0, class_of(expected >> (5 + shift), 15)), (c, 1, class_of(contrast >> shift, 15))],
            (c, phase),
        )
        error = self.code_error(chosen, self.peak // self.step + 1)
        value = clamped(rounded + error * self.step, 0, self.peak)
        self.samples[y][x][c], self.errors[y][x][c] = value, 16 * value - predicted
        for bias in biases:
            mean, count = bias
            mean += ((16 * value - linear) * 64 - mean) * RATE[count] >> 16
            bias[:] = mean, min(count + 1, 100)
        self.learn_moments(c, block, features, 2 * value - twice, activity)

    # ---- copies

    def pixel(self, y, x, here):
        return sum(self.sample(y, x, c, here) << 16 * (self.channels - 1 - c) for c in range(self.channels))

    def copy_pixel(self, y, x):
        def hashed(hash_, pixel):
            hash_ = (hash_ + pixel) * 0xD6E8FEB86659FD93 & WORD
            return hash_ ^ hash_ >> 29

        def slot_of(hash_):
            return (hash_ * 0x9E3779B97F4A7C15 & WORD) >> 48

        W, N, NW, NE = (self.pixel(y + dy, x + dx, y) for dy, dx in ((0, -1), (-1, 0), (-1, -1), (-1, 1)))
        WW, NN = self.pixel(y, x - 2, y), self.pixel(y - 2, x, y)
        two = hashed(hashed(0, W), N)
        four = hashed(hashed(two, NW), NE)
        six = hashed(hashed(four, WW), NN)
        slots = (0, slot_of(six)), (1, slot_of(two))
        candidates = []
        for slot in slots:
            if self.confidence[slot] and self.followed[slot] not in candidates:
                candidates.append(self.followed[slot])
        candidates += [pixel for i, pixel in enumerate((W, N, NE)) if pixel not in (*candidates, *(W, N, NE)[:i])]
        equal = sum(same << i for i, same in enumerate((W == N, W == NW, N == NW, N == NE, W == WW, N == NN)))
        hits = ((y, x - 1), (y - 1, x), (y - 1, x + 1), (y - 1, x - 1))
        copied = sum(self.copied[place] << 4 * i for i, place in enumerate(hits))
        confidence, channels = self.confidence[slots[0]], range(self.channels)
        found = None
        for number, candidate in enumerate(candidates):
            parts = [candidate >> 16 * (self.channels - 1 - c) & 65535 for c in channels]
            distance = sum(abs(parts[c] - self.b(y, x, c)) for c in channels)
            contrast = sum(
                abs(self.b(y, x + 1, c) - self.b(y, x - 1, c)) + abs(self.b(y + 1, x, c) - self.b(y - 1, x, c))
                for c in channels
            )
            known = (W, N, NE, self.followed[slots[0]])
            is_ = sum((candidate == pixel) << i for i, pixel in enumerate(known))
            id_ = (number + 1 + 8 * is_) << 32
            keys = (
                hashed(id_, confidence + 16 * (self.history & 255)),
                hashed(six, id_),
                hashed(id_, equal),
                hashed(id_, copied),
                hashed(id_, class_of(distance, 31) + 32 * class_of(contrast, 31)),
                hashed(four, id_),
            )
            contexts = [("copy", i, slot_of(key)) for i, key in enumerate(keys)]
            mixers = [("copy", 0, confidence, number), ("copy", 1, is_, number)]
            if self.decide(contexts, mixers, ("copy", number, min(confidence, 3)), 0):
                found = number
                for c in channels:
                    self.samples[y][x][c], self.errors[y][x][c] = parts[c], 0
                break
        self.copied[y, x] = 0 if found is None else found + 1
        self.history = self.history << 1 | (found is not None)
        return found is not None, slots

    def learn_pixel(self, y, x, slots):
        pixel = self.pixel(y, x, y)
        for slot in slots:
            confidence = self.confidence[slot]
            if confidence and self.followed[slot] == pixel:
                self.confidence[slot] = min(confidence + 1, 15)
            elif confidence > 3:
                self.confidence[slot] = confidence // 2
            else:
                self.followed[slot], self.confidence[slot] = pixel, 1

    # ---- a tile

    def decode(self):
        for y in range(self.rows):
            for x in range(self.columns):
                if x % BLOCK == 0:
                    for c in range(self.channels):
                        sums = self.sums[c, x // BLOCK]
                        sums[:] = [[value - (value >> 3) for value in row] for row in sums]
                        self.weights.pop((c, x // BLOCK), None)
                is_copied, slots = self.copy_pixel(y, x) if self.copies else (False, ())
                if not is_copied:
                    for turn in range(self.channels):
                        self.code_sample(y, x, turn)
                self.learn_pixel(y, x, slots)
        return self.samples


def decode_plainly(payload: bytes, base: np.ndarray, bit_depth: int, max_error: int) -> np.ndarray:
    """The samples of a payload that a decoder doesn't refuse, as `decode_residual` gives them."""
    return np.array(Decoder(payload, base, bit_depth, max_error).decode()).astype(base.dtype)
