"""The authors' checkpoints -> exact models in the user's folder, each verified, named, and written at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from ..errors import UsageError, WeightsError
from ..model.file import SUFFIX, WeightsFile, describe, sha256
from ..model.find import user_folder
from ..util.atomic import replacing
from .calibrate import batches_of, exact_of, rate, save_exact
from .catalogue import AUTHORS, LICENCE, Published
from .download import download
from .official import read

PHOTOS = Path(__file__).parent / "photos"
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
CHECKPOINT = "checkpoint"  # in the provenance: SHA-256 of what a model was made of
RATE = "bits per pixel"  # in the provenance: of the photographs

Report = Callable[[str], None]


def photos_of(folder: str | None) -> list[Path]:
    """The photographs to calibrate on, those of the package by default. Raises UsageError."""
    where = Path(folder) if folder else PHOTOS
    photos = sorted(path for path in where.glob("*") if path.suffix.lower() in PICTURES)
    if not photos:
        raise UsageError(f"--photos {where}: no picture in it ends in {', '.join(PICTURES)}")
    return photos


def install(one: Published, given: Path | None, photos: Sequence[Path], *, force: bool = False, report: Report) -> None:
    """Puts a model of the authors into the user's folder, unless it is there.

    Args:
        given: the checkpoint; None: it is downloaded, and removed in the end.
        force: make it anew.
        report: is called with a line for people about each stage.

    Raises WeightsError, ModelNotFoundError, UsageError, PictureError, OSError.
    """
    target = user_folder() / f"{one.name}{SUFFIX}"
    if not force and target.is_file() and CHECKPOINT in describe(target).provenance:
        report(f"{one.name} is there: {target}")
        return
    checkpoint = given or user_folder() / "downloads" / f"{one.name}.pth.tar"
    with replacing(target, force) as temporary:
        if given is None:
            report(f"{one.name}: downloading {one.link}")
            download(one, checkpoint)
        report(f"{one.name}: reading {checkpoint}, making it exact on {len(photos)} photographs")
        try:
            make(one, checkpoint, photos, temporary, one.link if given is None else given.name)
        except WeightsError:
            if given is None:  # the server sent something else: another try begins anew
                checkpoint.unlink(missing_ok=True)
            raise
    if given is None:
        checkpoint.unlink()
    made = describe(target)
    report(f"{one.name}: {one.title}, hash {made.hash.hex()}, {target.stat().st_size / 1e6:.0f} MB, {target}")


def make(one: Published, checkpoint: Path, photos: Sequence[Path], output: Path, origin: str | None) -> None:
    """A checkpoint as an exact model in a file that names its origin. Raises WeightsError, PictureError, OSError."""
    with checkpoint.open("rb") as file:
        digest = sha256(file).hex()
    model, _ = read(checkpoint, one.arch, one.name, one.lmbda)
    batches = batches_of(model, photos)
    exact = exact_of(model, batches)
    before, after = rate(model, batches), rate(exact, batches)
    provenance = {
        "by": AUTHORS,
        "from": origin,
        "licence": LICENCE,
        "arch": one.arch,
        "loss": one.loss,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        CHECKPOINT: digest,
        RATE: round(after, 4),
        "exactness costs": f"{after / before - 1:+.3%}",
    }
    save_exact(exact, output, provenance, len(photos), one.name)


def doubts(models: Sequence[WeightsFile]) -> list[str]:
    """What looks wrong with a family, by rising lambda: files that have each other's names, or the same one twice."""
    sentences = []
    for low, high in pairwise(models):
        names = f"{low.name} and {high.name}"
        if low.provenance.get(CHECKPOINT) == high.provenance.get(CHECKPOINT):
            sentences.append(f"{names} are made of the same checkpoint")
        elif low.provenance.get(RATE, 0) > high.provenance.get(RATE, float("inf")):
            sentences.append(
                f"{names}: the higher lambda takes fewer bits; are their checkpoints in each other's place?"
            )
    return sentences
