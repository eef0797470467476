"""The limits of what clients may send, and of the work at one time."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..util.hardware import cores


@dataclass(frozen=True)
class Limits:
    """Bodies in memory take at most (workers + queue) * max_bytes."""

    max_bytes: int = 32 << 20  # of a body
    max_pixels: int = 25_000_000  # of a picture, either way
    timeout: float = 120.0  # seconds: each for the body to arrive, for a free worker, for the work, and for the answer
    workers: int = field(default_factory=cores)  # pictures that are coded side by side
    queue: int = 32  # requests that wait, besides
    threads: int = 1  # CPU threads of one picture

    @property
    def places(self) -> int:
        """Requests that may be under way at once."""
        return self.workers + self.queue
