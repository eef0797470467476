"""Pillow opens and saves .hpcm files once this is imported.

    import hpcm.pillow
    from PIL import Image

    with Image.open("photo.hpcm") as image:  # reads the head alone: size, mode, info
        image.thumbnail((256, 256))  # decodes, in little memory
    Image.open("photo.png").save("photo.hpcm", quality=50)

`save` takes what `Codec.compress` takes, and `model`, a name or path; also `exif` (bytes or Image.Exif), `icc_profile`
and `xmp` in place of the image's own. `info` of an opened file has what `Metadata.info` tells, "model" and "level", and
under "gain_map" its HDR gain map, if there is one (image/hdr.py).

A file that was cut short is an OSError, or with `ImageFile.LOAD_TRUNCATED_IMAGES` the picture as far as it goes.
"""

from __future__ import annotations

from typing import IO, Any

from PIL import Image, ImageFile

from .defaults import MIME_TYPE, SUFFIX
from .errors import FormatError, HPCMError, PictureError, TruncatedError
from .format.container import is_hpcm, unpack, unpack_head
from .format.fields import Container
from .image.hdr import GainMap
from .image.metadata.gain_map import INFO_KEY
from .image.metadata.gather import attach
from .image.metadata.record import Metadata
from .image.picture import file_of, info_of, mode_of
from .util.notes import ignore_note, log_note

FORMAT = "HPCM"
FIRST_READ = 4096  # bytes, which hold the head of most files
TARGETS = ("quality", "bpp", "psnr", "lossless", "max_error")
OPTIONS = (*TARGETS, "model", "tile", "progressive", "effort", "strip", "icc")
METADATA = ("exif", "icc_profile", "xmp")


class HPCMImageFile(ImageFile.ImageFile):
    """A .hpcm file as Pillow sees it."""

    format = FORMAT
    format_description = "HPCM learned image compression"

    def _open(self) -> None:
        assert self.fp is not None
        self._start = self.fp.tell()
        self._draft: tuple[int, int] | None = None
        try:
            head = _read_head(self.fp)
        except FormatError as error:
            raise SyntaxError(str(error)) from error
        self._size, self._mode = (head.width, head.height), mode_of(head)
        self.info.update(info_of(Metadata.of(head), head.bit_depth), model=head.model, level=head.level)
        if gain_map := _gain_map(head):
            self.info[INFO_KEY] = gain_map
        self.tile = [ImageFile._Tile("hpcm", (0, 0, *self.size), 0, self.mode)]

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Makes `load` give the picture reduced by the largest power of two that leaves it no smaller than `size`.

        Returns the mode, and where the picture lies in what `load` will give; None where it changes nothing.
        """
        from .codec.codec import reduction

        if not self.tile or size is None or self._draft is not None:
            return None
        width, height = self.size
        draft = max(int(size[0]), 1), max(int(size[1]), 1)
        factor = reduction(self.size, draft)
        if factor == 1:
            return None
        self._draft, self._size = draft, (-(-width // factor), -(-height // factor))
        return self.mode, (0, 0, width / factor, height / factor)

    def load(self) -> Any:
        """Decodes. Raises OSError."""
        if self.tile:
            self.im = self._decoded().im
            self.tile = []
            if self._exclusive_fp and self.fp:
                self.fp.close()
            self.fp = None
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Nothing. That it is there tells `ImageFile.Parser` that `load` takes the whole file, not piece by piece."""

    def verify(self) -> None:
        """Checks every CRC, without decoding. Raises OSError. The file must be opened anew then, as Pillow says."""
        try:
            unpack(self._read())
        except FormatError as error:
            raise OSError(str(error)) from error
        super().verify()

    def _read(self) -> bytes:
        if self.fp is None:
            raise ValueError("the file is closed")
        self.fp.seek(self._start)
        return self.fp.read()

    def _decoded(self) -> Image.Image:
        from .codec.api import codec_for

        try:
            container = unpack(self._read(), partial=ImageFile.LOAD_TRUNCATED_IMAGES)
            codec = codec_for(container)
            decode = codec.preview if ImageFile.LOAD_TRUNCATED_IMAGES else codec.decompress
            return decode(container, draft=self._draft, on_note=ignore_note)  # `_open` has told of its gain map
        except TruncatedError as error:
            raise OSError(f"image file is truncated: {error}") from error
        except HPCMError as error:
            raise OSError(str(error)) from error


def _gain_map(head: Container) -> GainMap | None:
    """The gain map of a file, which is decoded when its picture is asked for."""
    if Metadata.of(head).gain_map is None:
        return None
    from .codec.api import codec_for
    from .codec.nested import stored

    return stored(head, lambda own: codec_for(own).decompress(own), None, log_note)


def _read_head(file: IO[bytes]) -> Container:
    """Reads no more than about twice what is needed. Raises FormatError."""
    data = file.read(FIRST_READ)
    while True:
        try:
            return unpack_head(data)
        except TruncatedError:
            more = file.read(len(data))
            if not more:
                raise
            data += more


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    from .codec.api import compress

    given: dict[str, Any] = image.encoderinfo
    metadata = {name: given[name] for name in METADATA if name in given}
    if metadata:
        image = _with(image, metadata)
    try:
        data = compress(image, **{name: given[name] for name in OPTIONS if name in given})
    except PictureError as error:
        raise OSError(f"cannot write mode {image.mode} as {FORMAT}: {error}") from error
    except HPCMError as error:
        raise ValueError(str(error)) from error
    file.write(data)


def _with(image: Image.Image, metadata: dict[str, Any]) -> Image.Image:
    """A copy of the image with other metadata; None stands for none."""
    file = file_of(image)  # before Pillow closes it
    copy = image.copy()
    copy.info.update({name: value or None for name, value in metadata.items()})
    if file is not None:
        attach(copy, file)
    if hasattr(image, "text"):  # of a PNG
        copy.text = image.text  # type: ignore[attr-defined]
    return copy


Image.register_open(FORMAT, HPCMImageFile, is_hpcm)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, SUFFIX)
Image.register_mime(FORMAT, MIME_TYPE)
