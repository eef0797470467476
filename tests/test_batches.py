"""Calls of several threads become one batch, and each gets its own result."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event, Thread

import numpy as np
import pytest
import torch

import hpcm
from hpcm.defaults import GPU_AT_ONCE
from hpcm.errors import CorruptError
from hpcm.model.tables import make_tables
from hpcm.nn.batches import Batches
from hpcm.nn.engine import TorchEngine
from hpcm.nn.hpcm import HPCM

PATIENCE = 60  # seconds, until a test is given up


class Device:
    """Work that begins when the test allows it, and notes what it was given together."""

    def __init__(self):
        self.begun, self.allowed = Event(), Event()
        self.batches = []

    def __call__(self, given):
        self.batches.append(list(given))
        self.begun.set()
        assert self.allowed.wait(PATIENCE)
        if "wrong" in given:
            raise ValueError("wrong")
        return [f"{each}!" for each in given]


def wait_for(batches, count):
    """Until so many calls wait."""
    while sum(map(len, batches._waiting.values())) < count:
        time.sleep(0.001)


def together(batches, device, calls):
    """The results of calls, (key, given), that all wait while the device is busy; and the errors."""
    with ThreadPoolExecutor(len(calls) + 1) as pool:
        first = pool.submit(batches, "busy", "first", device)
        assert device.begun.wait(PATIENCE)
        others = [pool.submit(batches, key, given, device) for key, given in calls]
        wait_for(batches, len(calls))
        device.allowed.set()
        assert first.result() == "first!"
        return [other.exception() or other.result() for other in others]


def test_calls_that_wait_are_computed_together():
    batches, device = Batches(8), Device()
    assert together(batches, device, [("a", n) for n in range(5)]) == [f"{n}!" for n in range(5)]
    assert [sorted(batch) for batch in device.batches[1:]] == [[0, 1, 2, 3, 4]]
    assert not batches._waiting


def test_no_more_than_so_many_and_only_of_one_kind():
    batches, device = Batches(2), Device()
    calls = [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("b", 5)]
    assert together(batches, device, calls) == ["1!", "2!", "3!", "4!", "5!"]
    assert max(map(len, device.batches)) == 2
    kinds = {given: key for key, given in calls}
    assert all(len({kinds[given] for given in batch}) == 1 for batch in device.batches[1:])


def test_an_error_is_that_of_its_own_call():
    batches, device = Batches(8), Device()
    results = together(batches, device, [("a", "1"), ("a", "wrong"), ("a", "2")])
    assert results[::2] == ["1!", "2!"]
    assert isinstance(results[1], ValueError)
    assert not batches._waiting


def test_whoever_is_interrupted_leaves_the_others_their_results():
    batches, given_up = Batches(8), []

    class Interrupted(BaseException):
        pass

    busy = Device()

    def work(given):
        if not given_up:
            given_up.append(list(given))
            raise Interrupted
        return given

    def call(n):
        try:
            return batches("a", n, work)
        except Interrupted:
            return "interrupted"

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batches, "busy", "first", busy)
        assert busy.begun.wait(PATIENCE)
        others = [pool.submit(call, n) for n in range(3)]
        wait_for(batches, 3)
        busy.allowed.set()
        results = [other.result() for other in others]
    assert first.result() == "first!"
    assert results.count("interrupted") == 1
    assert all(result in (n, "interrupted") for n, result in enumerate(results))


def latents(config, count, size=(16, 16)):
    return [3 * np.random.default_rng(n).normal(size=(*size, config.M)).astype(np.float32) for n in range(count)]


@pytest.fixture(scope="module")
def engines():
    """An exact model with one tile at a time, and with up to four in a batch."""
    one = hpcm.load("nano", engine="torch").engine
    return one, TorchEngine(one.model, one.tables, at_once=4)


def side_by_side(engine, calls):
    """The results of calls (function of the engine's batches) that are all made while the device is busy."""
    release, busy = Event(), Event()

    def hold(given):
        busy.set()
        assert release.wait(PATIENCE)
        return given

    batches = engine._shared.batches
    thread = Thread(target=batches, args=("busy", 0, hold))
    thread.start()
    assert busy.wait(PATIENCE)
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        wait_for(batches, len(calls))
        release.set()
        thread.join()
        return [future.exception() or future.result() for future in futures]


def test_latents_of_several_levels_are_coded_as_each_alone(engines):
    one, several = engines
    levels = [0, 5, 20, 5]
    ys = latents(one.config, 4)
    alone = [one.encode(y, level, (13, 7)) for y, level in zip(ys, levels, strict=True)]
    calls = [lambda y=y, level=level: several.encode(y, level, (13, 7)) for y, level in zip(ys, levels, strict=True)]
    for mine, theirs in zip(side_by_side(several, calls), alone, strict=True):
        assert mine.parts == theirs.parts
        assert mine.checksums == theirs.checksums
        assert np.array_equal(mine.y_hat, theirs.y_hat)
    steps = 1 + sum(one.config.steps)
    given = [(b"".join(each.parts), steps, (16, 16), level, (13, 7)) for each, level in zip(alone, levels, strict=True)]
    given[1] = (alone[1].parts[0], 3, (16, 16), levels[1], (13, 7))  # cut after the first scale
    decoded = side_by_side(several, [lambda each=each: several.decode(*each) for each in given])
    for mine, each in zip(decoded, given, strict=True):
        theirs = one.decode(*each)
        assert np.array_equal(mine.y_hat, theirs.y_hat)
        assert mine[1:] == theirs[1:]


def test_a_damaged_payload_is_no_matter_of_the_others(engines):
    one, several = engines
    good = [one.encode(y, 3) for y in latents(one.config, 3)]
    steps = 1 + sum(one.config.steps)
    payloads = [b"".join(each.parts) for each in good]
    payloads[1] = b"\0\0\0\0" + payloads[1]
    calls = [lambda data=data: several.decode(data, steps, (16, 16), 3) for data in payloads]
    first, damaged, last = side_by_side(several, calls)
    assert isinstance(damaged, CorruptError)
    for mine, theirs in ((first, good[0]), (last, good[2])):
        assert np.array_equal(mine.y_hat, theirs.y_hat)


def test_pixels_of_several_pictures_are_those_of_each_alone(engines):
    one, several = engines
    pictures = [np.random.default_rng(n).integers(0, 256, (100, 120, 3), np.uint8) for n in range(3)]
    ys = side_by_side(several, [lambda p=p: several.analyse(p, 255, (128, 128)) for p in pictures])
    for picture, y in zip(pictures, ys, strict=True):
        np.testing.assert_allclose(y, one.analyse(picture, 255, (128, 128)), atol=1e-4)
    crop = (3, 0, 120, 100)
    for depth, grey in ((8, False), (16, False), (8, True)):
        calls = [lambda y=y, depth=depth, grey=grey: several.synthesise(y, depth, grey, crop) for y in ys]
        for y, samples in zip(ys, side_by_side(several, calls), strict=True):
            alone = one.synthesise(y, depth, grey, crop)
            assert samples.dtype == alone.dtype
            assert samples.shape == alone.shape
            np.testing.assert_allclose(samples.astype(int), alone, atol=1)


def test_a_model_that_is_not_exact_is_computed_alone(tiny, build):
    """Its sums, and so its files, would depend on what else is in the batch."""
    model = build(tiny).to("meta")
    assert TorchEngine(model, make_tables()).at_once == 1
    exact = replace(tiny, carrier="float32")
    with torch.device("meta"):
        assert TorchEngine(HPCM(exact), make_tables()).at_once == GPU_AT_ONCE
