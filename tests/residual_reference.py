"""The decoder of residuals once more, in plain Python: slow, for small tiles. core/residual.c has the same names.

Python's >> rounds down, as the stream asks for; where the stream rounds towards zero, `toward_zero` does.
"""

from collections import defaultdict

import numpy as np

BLOCK, INPUTS, CANDIDATES, NODES, FEATURES = 16, 6, 5, 16, 16
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


def shifted(value, left):
    return value << left if left >= 0 else value >> -left


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
        self.mixers = defaultdict(lambda: [16384 * 3 // 2 // INPUTS] * INPUTS)
        self.biases = defaultdict(lambda: [0, 0])
        self.sums = defaultdict(lambda: [[0] * FEATURES for _ in range(FEATURES)])
        self.batches = defaultdict(list)
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

    def decide(self, contexts, mixers, node):
        probabilities = [self.probabilities[context, node] for context in contexts]
        weights = [self.mixers[set_, node] for set_ in mixers]
        inputs = [STRETCH[value >> 10] for value, _ in probabilities]
        dot = sum(w * i for own in weights for w, i in zip(own, inputs, strict=True))
        mixed = SQUASH[clamped(dot >> 15, -4095, 4095) + 4096]
        bit = self.coder.bit(clamped(mixed, 16, 65520))
        error = ((65535 if bit else 0) - mixed) >> 1
        for own in weights:
            own[:] = [clamped(w + ((i * error + 32768) >> 16), -32768, 32767) for w, i in zip(own, inputs, strict=True)]
        for probability in probabilities:
            self.learn(probability, bit)
        return bit

    def decide_alone(self, *context):
        probability = self.probabilities[context]
        bit = self.coder.bit(clamped(probability[0] >> 6, 16, 65520))
        self.learn(probability, bit)
        return bit

    def learn(self, probability, bit):
        value, count = probability
        value += (((1 << 22) - 1 if bit else 0) - value) * RATE[count] >> 16
        probability[:] = value, min(count + 1, 255)

    def code_error(self, contexts, mixers, most):
        if self.decide(contexts, mixers, 0):
            return 0
        negative, found = self.decide(contexts, mixers, 1), 0
        while found < magnitude_class(most) and self.decide(contexts, mixers, min(2 + found, NODES - 1)):
            found += 1
        bits = max(found - 1, 0)
        begin, place = (1 + (1 << bits) if found else 1), 0
        for above in range(bits):
            node = above + place if above < 2 else min(above + 1, 7)
            place = 2 * place + self.decide_alone("place", mixers[0], found, node)
        return -(begin + place) if negative else begin + place

    # ---- a sample

    def features_of(self, y, x, turn):
        c = 0 if self.channels == 1 else ORDER[turn]

        def s(dy, dx, channel=c):
            return self.sample(y + dy, x + dx, channel, y)

        twice = s(0, -1) + s(-1, 0)
        around = [s(-1, -1), s(-1, 1), s(0, -2), s(-2, 0), self.b(y, x, c)]
        features = [s(0, -1) - s(-1, 0)] + [2 * value - twice for value in around]
        for other in ORDER[:turn]:
            sum_ = s(0, -1, other) + s(-1, 0, other)
            features += [2 * s(0, 0, other) - sum_, s(0, -1, other) - s(-1, 0, other)]
            features += [2 * value - sum_ for value in (s(-1, -1, other), s(-1, 1, other))]
        return twice, features

    def solve(self, c, block, count):
        last = (self.columns - 1) // BLOCK
        own, left, right = (self.sums[c, i] for i in (block, max(block - 1, 0), min(block + 1, last)))
        scaled = [[0] * FEATURES for _ in range(FEATURES)]
        lower, inverse, shifts = [[0] * FEATURES for _ in range(FEATURES)], [0] * FEATURES, []
        for i in range(count + 1):
            for j in range(i + 1):
                scaled[i][j] = 2 * own[i][j] + left[i][j] + right[i][j]
            scaled[i][i] += 1024 + (scaled[i][i] >> 12)
            shifts.append((30 - scaled[i][i].bit_length()) >> 1)
        for i in range(count + 1):
            for j in range(min(i, count - 1) + 1):
                value = shifted(scaled[i][j], shifts[i] + shifts[j])
                value -= sum(scaled[i][q] * lower[j][q] for q in range(j)) >> 18
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
            weights[i] = clamped(total >> 18, -(1 << 26), 1 << 26)
        self.weights[c, block] = [
            clamped(shifted(weights[i], shifts[i] - shifts[count]), -(1 << 21), 1 << 21) for i in range(count)
        ]

    def learn_moments(self, c, features, target, activity):
        shift = self.feature_shift
        f = [clamped(value >> shift, -2047, 2047) for value in (*features, target)]
        weight = (64 << 8) // (64 + (activity >> shift) // 2)
        weight = max(min(weight, 65520 // (max(map(abs, f)) + 1)), 1)
        self.batches[c].append((f, [(value * weight + 8) >> 4 for value in f]))

    def learn_block(self, c, block):
        sums = self.sums[c, block]
        for i in range(FEATURES):
            for j in range(FEATURES):
                sums[i][j] -= sums[i][j] >> 3
        for f, weighted in self.batches.pop(c, []):
            for i in range(len(f)):
                for j in range(len(f)):
                    sums[i][j] += weighted[i] * f[j]
        self.weights.pop((c, block), None)

    def activity_of(self, y, x, c):
        near = ((0, -1), (-1, 0)), ((-1, -1), (-1, 1)), ((0, -2), (-2, 0), (-1, 2))
        return sum(
            weight * abs(self.error(y + dy, x + dx, c, y))
            for weight, places in zip((6, 3, 2), near, strict=True)
            for dy, dx in places
        )

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
        activity = self.activity_of(y, x, c)
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
        chosen = [(c, i, context) for i, context in enumerate(contexts)]
        mixers = [(c, 0, class_of(expected >> (5 + shift), 15)), (c, 1, class_of(contrast >> shift, 15))]
        error = self.code_error(chosen, mixers, self.peak // self.step + 1)
        value = clamped(rounded + error * self.step, 0, self.peak)
        self.samples[y][x][c], self.errors[y][x][c] = value, 16 * value - predicted
        for bias in biases:
            mean, count = bias
            mean += ((16 * value - linear) * 64 - mean) * RATE[count] >> 16
            bias[:] = mean, min(count + 1, 100)
        self.learn_moments(c, features, 2 * value - twice, activity)

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
        activity = sum(
            weight * abs(self.error(y + dy, x + dx, c, y))
            for c in channels
            for dy, dx, weight in ((0, -1, 2), (-1, 0, 2), (-1, 1, 1), (-1, -1, 1))
        )
        activity = fine_class_of(activity >> (3 + self.class_shift), 63)

        def parts_of(candidate):
            return [candidate >> 16 * (self.channels - 1 - c) & 65535 for c in channels]

        def is_it(number, candidate):
            distance = sum(abs(part - self.b(y, x, c)) for c, part in enumerate(parts_of(candidate)))
            contrast = sum(
                abs(self.b(y, x + 1, c) - self.b(y, x - 1, c)) + abs(self.b(y + 1, x, c) - self.b(y - 1, x, c))
                for c in channels
            )
            known = (W, N, NE, self.followed[slots[0]])
            is_ = sum((candidate == pixel) << i for i, pixel in enumerate(known))
            id_ = (number + 1 + 8 * is_) << 32
            keys = (
                hashed(id_, confidence + 16 * (self.history & 255)),
                hashed(six, id_) if confidence else hashed(id_, activity),
                hashed(id_, equal),
                hashed(id_, copied),
                hashed(id_, class_of(distance, 31) + 32 * class_of(contrast, 31)),
                hashed(four, id_) if confidence else hashed(id_, activity // 4 * 64 + equal),
            )
            contexts = [("copy", i, slot_of(key)) for i, key in enumerate(keys)]
            return self.decide(contexts, [("copy", 0, confidence, number), ("copy", 1, is_, number)], 0)

        found, first = None, int(confidence > 0)
        if first and is_it(0, candidates[0]):
            found = 0
        elif first < len(candidates) and is_it(CANDIDATES + first, candidates[first]):
            found = first
            while found < len(candidates) - 1 and not is_it(found, candidates[found]):
                found += 1
        self.copied[y, x] = 0 if found is None else found + 1
        self.history = self.history << 1 | (found is not None)
        if found is not None:
            for c in channels:
                self.samples[y][x][c], self.errors[y][x][c] = parts_of(candidates[found])[c], 0
            if equal != 63 or candidates[found] != W:
                for turn in channels:
                    c = 0 if self.channels == 1 else ORDER[turn]
                    twice, features = self.features_of(y, x, turn)
                    target = 2 * self.samples[y][x][c] - twice
                    self.learn_moments(c, features, target, self.activity_of(y, x, c))
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
                is_copied, slots = self.copy_pixel(y, x) if self.copies else (False, ())
                if not is_copied:
                    for turn in range(self.channels):
                        self.code_sample(y, x, turn)
                self.learn_pixel(y, x, slots)
                if x % BLOCK == BLOCK - 1 or x == self.columns - 1:
                    for c in range(self.channels):
                        self.learn_block(c, x // BLOCK)
        return self.samples


def decode_plainly(payload: bytes, base: np.ndarray, bit_depth: int, max_error: int) -> np.ndarray:
    """The samples of a payload that a decoder doesn't refuse, as `decode_residual` gives them."""
    return np.array(Decoder(payload, base, bit_depth, max_error).decode()).astype(base.dtype)
