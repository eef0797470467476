"""What tests of archives share. Importing it skips the test module where pyarrow, Ray or Jinja isn't installed."""
# ruff: noqa: E402 (what needs these packages is imported after the check)

import contextlib
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="archives need pyarrow: pip install 'hpcm-codec[ray]'")
ray = pytest.importorskip("ray", reason="archives need Ray: pip install 'hpcm-codec[ray]'")
pytest.importorskip("jinja2", reason="archives need Jinja: pip install 'hpcm-codec[ray]'")

import pyarrow.parquet as pq

from hpcm import archive
from hpcm.archive import manifest, plan, run, worker
from hpcm.archive.store import Store

__all__ = ["pa", "pq", "ray", "RAYS_WARNINGS", "work_in_this_process", "compress", "rows_of"]

RAYS_WARNINGS = [  # Ray's own, and moto's
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def work_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ray: one worker does one part after the other."""

    def results(job, parts):
        one = worker.Worker(job)
        for part in parts:
            text = plan.Part.loads(part.dumps()).dumps()
            columns = one({"part": np.array([text], dtype=object)})
            yield {name: values[0] for name, values in columns.items()}

    monkeypatch.setattr(run, "_results", results)
    monkeypatch.setattr(run, "_cluster", lambda _: contextlib.nullcontext())


def compress(source, target, **options) -> archive.Summary:
    return archive.compress(source, target, **{"model": "nano", "quality": 30, **options})


def rows_of(target: Path | str) -> list[dict]:
    """The rows of an archive's manifest."""
    return manifest.read(Store(str(target))).to_pylist()
