"""The parameters of the operations. One that isn't known is refused, not passed over."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..codec.checks import promised_error
from ..defaults import MAX_EFFORT, MAX_QUALITY
from ..errors import UsageError
from ..format.fields import PASSES, Box

NUMBER = r"\d{1,9}"
Strip = Literal["all", "gps"] | None  # as STRIPS
Icc = Literal["srgb"] | None  # as ICC_SPACES
STRIP = Field(None, description="leaves out metadata: all but for what the colours need, or the place alone")
ICC = Field(None, description="converts the colours to sRGB by the picture's ICC profile")


class CompressQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    quality: int | None = Field(None, ge=1, le=MAX_QUALITY, description="1 (smallest) to 100 (best), by default 50")
    bpp: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="the best quality with at most so many bits per pixel"
    )
    psnr: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="the smallest file with at least so many dB"
    )
    lossless: bool = Field(False, description="keeps every sample exactly")
    max_error: int | None = Field(
        None, alias="max-error", ge=0, lt=1 << 15, description="keeps every sample to within so much; 0 is lossless"
    )
    model: str | None = Field(None, max_length=32, description="a name out of /models")
    effort: int = Field(0, ge=0, le=MAX_EFFORT, description="a search for a smaller file; needs PyTorch on the server")
    strip: Strip = STRIP
    icc: Icc = ICC

    def how(self) -> dict[str, Any]:
        """What `Codec.compress` takes. Raises UsageError for what can't be done, before anything is read."""
        promised_error(self.lossless, self.max_error, self.quality, self.bpp, self.psnr)
        if self.effort and not find_spec("torch"):
            raise UsageError("effort: this server has no PyTorch, which the search needs")
        return self.model_dump(exclude={"model", "strip", "icc"})

    def appearance(self) -> dict[str, Any]:
        """What `read_picture` takes."""
        return {"strip": self.strip, "icc": self.icc}


class DecompressQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["png", "webp", "jpeg"] = Field("png", description="png and webp without further loss")
    scale: int | None = Field(
        None,
        ge=1,
        le=PASSES,
        description="1 or 2: a coarse picture of a progressive file; 3: the lossy picture of a file with more",
    )
    box: str | None = Field(
        None,
        pattern=rf"^{NUMBER}(,{NUMBER}){{3}}$",
        description="only this part, LEFT,TOP,RIGHT,BOTTOM in pixels, right and bottom exclusive",
    )
    max_size: int | None = Field(
        None, alias="max-size", ge=1, le=1 << 24, description="reduced, so that no side has more pixels"
    )
    strip: Strip = STRIP
    icc: Icc = ICC

    def how(self) -> dict[str, Any]:
        """What `Worker.decompress` takes. Raises UsageError."""
        if self.box is not None and self.max_size is not None:
            raise UsageError("box and max-size exclude one another: give one")
        appearance = {"strip": self.strip, "icc": self.icc}
        box: Box | None = None
        if self.box is not None:
            left, top, right, bottom = map(int, self.box.split(","))
            box = left, top, right, bottom
        return {"format": self.format, "scale": self.scale, "box": box, "max_size": self.max_size, **appearance}


def parameters(path: str) -> list[str]:
    """The names of the parameters that an operation takes."""
    fields = (CompressQuery if path == "/compress" else DecompressQuery).model_fields
    return [field.alias or name for name, field in fields.items()]
