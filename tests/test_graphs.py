"""Work that is recorded once and replayed with other numbers gives what it would give without.

There is no GPU here: a tape takes a CUDA graph's place. It notes each operation of torch with the very tensors that it
was given, as a graph notes addresses, and does the same again, in the same memory, when it is replayed. What a graph
would bake in (a level, a mask of another picture, a number that the host has seen) is baked into the tape, too.
"""

import contextlib

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hpcm.model.tables import make_tables
from hpcm.nn import graphs
from hpcm.nn.engine import TorchEngine
from hpcm.nn.graphs import Recorded, Runner
from hpcm.nn.schedule import PLANS, plan_for

FORBIDDEN = ("aten._local_scalar_dense", "aten.nonzero", "aten.unique", "aten.masked_select", "aten.equal")


class Tape(TorchDispatchMode):
    """In place of torch.cuda.CUDAGraph."""

    recording = None

    def __init__(self):
        super().__init__()
        self.notes = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        assert not str(operation).startswith(FORBIDDEN), f"{operation} waits for the device"
        result = operation(*args, **(kwargs or {}))
        self.notes.append((operation, args, kwargs or {}, result))
        return result

    def capture_begin(self, pool=None, capture_error_mode="global"):
        assert Tape.recording is None, "two recordings at a time"
        Tape.recording = self
        self.__enter__()

    def capture_end(self):
        assert Tape.recording is self
        Tape.recording = None
        self.__exit__(None, None, None)

    def replay(self):
        with torch.no_grad():
            for operation, args, kwargs, result in self.notes:
                again = operation(*args, **kwargs)
                for old, new in zip(tensors(result), tensors(again), strict=True):
                    if old is not new and old.data_ptr() != new.data_ptr():  # neither in place nor a view
                        old.copy_(new)


def tensors(result):
    """Of what an operation gives, which may be numbers."""
    results = result if isinstance(result, list | tuple) else [result]
    return [x for x in results if isinstance(x, torch.Tensor)]


@pytest.fixture(autouse=True)
def tapes(monkeypatch):
    monkeypatch.setattr(graphs, "new_graph", Tape)
    monkeypatch.setattr(graphs, "_aside", lambda device: contextlib.nullcontext())
    Tape.recording = None


@pytest.fixture
def engines(tiny, build):
    """The same model without graphs, and with tapes."""
    model = build(tiny)
    plain, recording = TorchEngine(model, make_tables()), TorchEngine(model, make_tables(), at_once=4)
    recording._shared.run.records = True
    return plain, recording


def latent(config, seed, size=(16, 16)):
    return 3 * np.random.default_rng(seed).normal(size=(*size, config.M)).astype(np.float32)


@pytest.mark.parametrize("inside", [None, (13, 7)])
def test_latents_are_coded_as_without(engines, tiny, inside):
    plain, recording = engines
    steps = 1 + sum(tiny.steps)
    for seed, level in enumerate((3, 20, 0, 11)):  # the first runs, the second is recorded, the others are replayed
        y = latent(tiny, seed)
        expected, found = plain.encode(y, level, inside), recording.encode(y, level, inside)
        assert found.parts == expected.parts
        assert found.checksums == expected.checksums
        assert np.array_equal(found.y_hat, expected.y_hat)
        decoded = recording.decode(b"".join(expected.parts), steps, (16, 16), level, inside)
        assert np.array_equal(decoded.y_hat, expected.y_hat)
        assert (decoded.checksum, decoded.words_left) == (expected.checksums[-1], 0)
        partly = expected.parts[0], 3, (16, 16), level, inside
        assert np.array_equal(recording.decode(*partly).y_hat, plain.decode(*partly).y_hat)
    kinds = [key[0][0] for key, kept in recording._shared.run._kept.items() if kept is not None]
    assert kinds == ["encode", "decode"]


def test_pictures_are_transformed_as_without(engines, tiny):
    plain, recording = engines
    for seed in range(4):
        picture = np.random.default_rng(seed).integers(0, 256, (100, 120, 3), np.uint8)
        y = recording.analyse(picture, 255, (128, 128))
        assert np.array_equal(y, plain.analyse(picture, 255, (128, 128)))
        for how in ((8, False, (0, 0, 120, 100)), (16, True, (1, 2, 3, 4))):
            assert np.array_equal(recording.synthesise(y, *how), plain.synthesise(y, *how))


def test_a_decoder_asks_between_two_graphs(engines, tiny):
    _, recording = engines
    data = recording.encode(latent(tiny, 0), 3)
    for _ in range(2):
        recording.decode(b"".join(data.parts), 1 + sum(tiny.steps), (16, 16), 3)
    (decoding,) = [kept for kept in recording._shared.run._kept.values() if kept is not None]
    assert len(decoding.exchanges) == 1 + sum(tiny.steps)
    assert len(decoding.graphs) == len(decoding.exchanges) + 1
    assert all(exchange.question.dtype == torch.uint8 for exchange in decoding.exchanges)


class Enough(Exception):
    pass


def test_work_that_ends_early_leaves_the_recording_as_it_was(engines, tiny):
    plain, recording = engines
    steps, asked = 1 + sum(tiny.steps), []

    def check():
        asked.append(1)
        if len(asked) % 5 == 0:
            raise Enough

    for level in range(4):
        parts = plain.encode(latent(tiny, level), level).parts
        decoding = b"".join(parts), steps, (16, 16), level
        with pytest.raises(Enough):
            recording.stoppable(check).decode(*decoding)
        assert np.array_equal(recording.decode(*decoding).y_hat, plain.decode(*decoding).y_hat)


def test_what_a_recording_reads_is_kept(engines, tiny):
    """Masks are kept for a few sizes only, but a graph reads them where they were."""
    _, recording = engines
    y = latent(tiny, 0)
    for _ in range(2):
        recording.encode(y, 3)
    (encoding,) = [kept for kept in recording._shared.run._kept.values() if kept is not None]
    plan = plan_for(tiny, 16, 16, recording.model.device)
    for side in range(PLANS + 1):
        plan_for(tiny, 32 + 4 * side, 16, recording.model.device)
    assert any(each is plan for each in encoding.held)
    assert plan_for(tiny, 16, 16, recording.model.device) is not plan


def doubled(_, inputs):
    return [2 * inputs[0]]


def test_few_functions_are_kept_and_large_ones_never(monkeypatch):
    monkeypatch.setattr(graphs, "KEPT", 3)
    run = Runner(torch.device("cpu"))
    run.records = True
    for size in (1, 2, 3, 4, 1):
        for _ in range(3):
            (result,) = run("doubled", doubled, [torch.ones(size)], latents=1)
            assert result.tolist() == [2] * size
    assert len(run._kept) == 3
    for _ in range(3):
        run("large", doubled, [torch.ones(5)], latents=graphs.MOST_LATENTS + 1)
    assert not any(key[0] == "large" for key in run._kept)


def test_a_driver_that_cannot_record_works_on_without(monkeypatch, caplog):
    def refused(self, *_, **__):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    run = Runner(torch.device("cpu"))
    run.records = True
    monkeypatch.setattr(Tape, "capture_begin", refused)
    for _ in range(3):
        assert run("doubled", doubled, [torch.ones(2)], latents=1)[0].tolist() == [2, 2]
    assert not run.records
    (record,) = caplog.records
    assert "not permitted when stream is capturing" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_an_error_in_a_recording_ends_it():
    def fails(ask, inputs):
        ask(inputs[0])
        if Tape.recording is not None:
            raise KeyError("ended")
        return [inputs[0]]

    with pytest.raises(KeyError):
        Recorded(fails, [torch.ones(2)])
    assert Tape.recording is None


def test_lack_of_memory_gives_up_what_was_recorded(monkeypatch):
    run = Runner(torch.device("cpu"))
    run.records = True
    for _ in range(2):
        run("doubled", doubled, [torch.ones(2)], latents=1)
    assert run._kept
    tries = []

    def large(_, inputs):
        tries.append(len(run._kept))
        if len(tries) == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return inputs

    assert run("large", large, [torch.ones(3)], latents=1)[0].tolist() == [1, 1, 1]
    assert tries == [2, 0]  # doubled and large itself, then nothing

    def too_large(_, inputs):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        run("too large", too_large, [torch.ones(3)], latents=1)


def test_a_decoder_begins_anew_after_lack_of_memory(engines, tiny, monkeypatch):
    plain, recording = engines
    data, steps, failures = plain.encode(latent(tiny, 0), 3), 1 + sum(tiny.steps), []
    recording.encode(latent(tiny, 0), 3)  # something that can be given up
    real = recording._indexes

    def indexes(scales):
        failures.append(1)
        if len(failures) == 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(scales)

    monkeypatch.setattr(recording, "_indexes", indexes)
    decoded = recording.decode(b"".join(data.parts), steps, (16, 16), 3)
    assert np.array_equal(decoded.y_hat, data.y_hat)
    assert decoded.checksum == data.checksums[-1]
