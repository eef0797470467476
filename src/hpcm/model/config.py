"""What a model is: one frozen dataclass, and the named models.

Sources: "Learned Image Compression with Hierarchical Progressive Context Modeling" (ICCV 2025, arXiv 2507.19125) for
BASE and LARGE; "Scaling Learned Image Compression Models up to 1 Billion" (arXiv 2508.09075) for B1. NANO and LITE are
ours. An ablation is one `replace()`:

    BASE_PHI            = replace(BASE, fusion="psi")               psi is the context of the next step
    without progress    = replace(BASE, fusion="none")              the context stays that of the hyper prior
    fewer, more steps   = replace(BASE, steps=(2, 3, 3)), (2, 3, 12), (4, 3, 6)
    without hierarchy   = replace(BASE, hierarchy=False)            the same order, every step at full resolution

variants.py reads such changes from the command line and from files.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass, replace
from typing import Any

from ..defaults import CARRIERS
from ..format.fields import MAX_LEVEL, MODEL_NAME, MODEL_NAME_IN_WORDS, TILE_SIDES

MAX_WIDTH, MAX_BLOCKS, MAX_STAGES, MAX_WINDOW, MAX_HEADS = 8192, 64, 4, 16, 64  # of what a weights file may ask for
MAX_PER_PIXEL = 512  # numbers inside a block for each pixel; the 1B model has 192
GROUPS = 8  # the channels of the latent are scheduled in eight equal groups
PICTURE_CHANNELS = 3
CELL = 8  # side in pixels of the cells of the "unshuffle8" stem
LATENT_STRIDE = 16  # pixels between neighbours of y
HYPER_STRIDE = 64  # pixels between neighbours of z
LATENTS_PER_Z = HYPER_STRIDE // LATENT_STRIDE  # rows, or columns, of y for one of z
STEMS = {"conv4": 2, "conv2": 2, "unshuffle8": CELL}  # their strides
STEPS = ((1, 2, 4), (1, 3), (1, 2, 3, 4, 6, 12))  # how many coding steps a scale may have, for scales 1, 2, 3
MS_SSIM_WEIGHT = 1280.0  # of published lambdas for 1 - MS-SSIM (2.4 .. 60.5) to those for MSE (0.0018 .. 0.0483)
MAX_LEVELS = MAX_LEVEL + 1
NOTHING = '""'  # the empty word, in messages

Stages = tuple[tuple[int, int], ...]  # (number of residual blocks, width)


@dataclass(frozen=True)
class Prior:
    """Blocks of a parameter network: DWConvRB before and after the step gain, and after the head (at 2M)."""

    before: int
    after: int
    tail: int = 0


@dataclass(frozen=True)
class Config:
    """Everything that decides the shapes of a network, its schedule and its range of rates.

    `analysis`: for each stage, a downsampling to the width, then the blocks. `synthesis`: the blocks at the width, then
    an upsampling to the next width. `hyper_analysis`: blocks, then down; `hyper_synthesis`: up, then blocks.
    """

    name: str
    M: int  # channels of the latent y
    N: int  # channels of the hyper latent z
    stem: str  # first and last layer: "conv4" (4x4 stride 2), "conv2" (2x2 stride 2), "unshuffle8" (8x8 cells, 1x1)
    analysis: Stages
    synthesis: Stages
    hyper_analysis: Stages
    hyper_synthesis: Stages
    partial: int  # PConvRB convolves the first 1/partial of its channels
    ratio: int  # widening inside PConvRB
    prior_width: int  # channels inside the parameter networks (3M in the released models)
    prior_coarse: Prior  # of scales 1 and 2
    prior_fine: Prior | None  # of scale 3; None: one network for all scales
    adaptor_blocks: tuple[int, int, int] = (0, 0, 0)  # DWConvRB of a step's adaptor per scale; 0: a 1x1 convolution
    steps: tuple[int, int, int] = (2, 3, 6)  # coding steps on scales 1, 2, 3
    hierarchy: bool = True
    fusion: str = "psi"  # "attention", "psi" or "none"
    windows: tuple[int, int, int] = (4, 8, 8)  # sides of the attention windows on scales 1, 2, 3
    heads: int = 32
    context_net: bool = True  # a 1x1 convolution of the context between scales
    refine: bool = False  # psi is the context plus what the parameter network adds
    hyper_placement: str = "aligned"  # "released": misplaced on scale 2 as in the released code (for its weights only)
    likelihood: str = "tails"  # "cdf": computed as in the released code, with its loss of digits (for parity with it)
    carrier: str = ""  # "float32", "split" or "float64": the model is exact (see grid.py); "": plain floating point
    transforms: str = "float"  # "int32": g_a, h_a and g_s are exact too, with sums of 31 bits; "float": they aren't
    interpolation: str = "separate"  # of gains and their inverses between levels; "paired": of gains and products
    levels: int = 1  # quality levels of one set of weights
    lambda_min: float = 0.0018
    lambda_max: float = 0.0483

    def __post_init__(self) -> None:
        """Checks every field: a weights file may be a stranger's. Raises ValueError.

        Types and sizes come first, as the other checks calculate with them.
        """
        self._check_choices()
        self._check_sizes()
        self._check_networks()
        self._check_schedule()
        self._check_rates()
        self._check_transforms()
        self._check_attention()

    def _check_choices(self) -> None:
        choices = {
            "stem": tuple(STEMS),
            "fusion": ("attention", "psi", "none"),
            "hyper_placement": ("aligned", "released"),
            "likelihood": ("tails", "cdf"),
            "interpolation": ("separate", "paired"),
            "carrier": ("", *CARRIERS),
            "transforms": ("float", "int32"),
        }
        for field, allowed in choices.items():
            self._expect(
                field, getattr(self, field) in allowed, f"one of {', '.join(word or NOTHING for word in allowed)}"
            )
        for field in ("hierarchy", "context_net", "refine"):
            self._expect(field, isinstance(getattr(self, field), bool), "true or false")
        self._expect("transforms", self.transforms == "float" or bool(self.carrier), "float, as the model isn't exact")
        self._expect("name", isinstance(self.name, str) and bool(MODEL_NAME.fullmatch(self.name)), MODEL_NAME_IN_WORDS)

    def _check_sizes(self) -> None:
        """Counts and widths, whose bounds keep a forged file from asking for a network that takes hours to build."""
        for field in ("M", "N", "partial", "ratio", "prior_width", "heads", "levels"):
            self._expect(field, _whole(getattr(self, field), 1, MAX_WIDTH), f"a whole number from 1 to {MAX_WIDTH}")
        for field, low, high in (("adaptor_blocks", 0, MAX_BLOCKS), ("windows", 1, MAX_WINDOW)):
            self._expect(field, _three(getattr(self, field), low, high), f"three whole numbers from {low} to {high}")
        self._expect("M", self.M % GROUPS == 0, f"a multiple of {GROUPS}")

    def _check_networks(self) -> None:
        """The shapes of stages and priors."""
        for field in ("analysis", "synthesis", "hyper_analysis", "hyper_synthesis"):
            stages = getattr(self, field)
            allowed = f"1 to {MAX_STAGES} pairs of blocks, up to {MAX_BLOCKS}, and width"
            self._expect(field, _are_stages(stages), allowed)
            fits = all(width >= self.partial for blocks, width in stages if blocks)
            self._expect("partial", fits, f"at most the widths of {field}")
        allowed = f"counts of blocks up to {MAX_BLOCKS}"
        self._expect("prior_coarse", _is_prior(self.prior_coarse), allowed)
        self._expect("prior_fine", self.prior_fine is None or _is_prior(self.prior_fine), allowed)

    def _check_schedule(self) -> None:
        most = max(map(max, STEPS))
        scheduled = _three(self.steps, 1, most) and all(n in may for n, may in zip(self.steps, STEPS, strict=True))
        allowed = (f"one of {', '.join(map(str, may))} on scale {scale}" for scale, may in enumerate(STEPS, 1))
        self._expect("steps", scheduled, ", ".join(allowed))

    def _check_rates(self) -> None:
        self._expect("levels", self.levels <= MAX_LEVELS, f"1 to {MAX_LEVELS}")
        for field in ("lambda_min", "lambda_max"):
            self._expect(field, _is_positive(getattr(self, field)), "positive and finite")

    def _check_attention(self) -> None:
        if self.fusion == "attention":
            divides = 2 * self.M % self.heads == 0 and self.heads <= MAX_HEADS
            self._expect("heads", divides, f"a divisor of 2M = {2 * self.M}, at most {MAX_HEADS}")
            fit = TILE_SIDES[0] % self.multiple == 0 and all(TILE_SIDES[0] % window == 0 for window in self.windows)
            allowed = f"powers of two that take at most {TILE_SIDES[0]} pixels, so that they divide every tile"
            self._expect("windows", fit, allowed)

    def _check_transforms(self) -> None:
        """Stages lead from pixels to latents and back, in bounded memory for each pixel."""
        stem = STEMS[self.stem]
        ends = (  # stages, the strides that they lie between, which of them meets y, and its width there
            ("analysis", stem, LATENT_STRIDE, -1, self.M),
            ("synthesis", stem, LATENT_STRIDE, 0, self.M),
            ("hyper_analysis", LATENT_STRIDE, HYPER_STRIDE // 2, 0, self.M),
            ("hyper_synthesis", LATENT_STRIDE, HYPER_STRIDE // 2, -1, 2 * self.M),
        )
        for field, fine, coarse, end, width in ends:
            stages = getattr(self, field)
            count = (coarse // fine).bit_length()  # each stage but the first halves or doubles the resolution
            fits = len(stages) == count and stages[end][1] == width
            self._expect(field, fits, f"{count} pairs for the stem {self.stem!r}, of width {width} at the latent")
            from_fine = stages if field.endswith("analysis") else stages[::-1]
            for stage, (blocks, wide) in enumerate(from_fine):
                channels = wide * (self.ratio if blocks else 1)  # PConvRB widens inside
                per_pixel = channels / (fine << stage) ** 2
                self._expect(field, per_pixel <= MAX_PER_PIXEL, f"at most {MAX_PER_PIXEL} numbers for each pixel")
        adapted = not any(self.adaptor_blocks) or self.prior_width == 3 * self.M
        self._expect("prior_width", adapted, f"3M = {3 * self.M}, as its adaptors have blocks")

    def _expect(self, field: str, fulfilled: bool, allowed: str) -> None:
        if not fulfilled:
            raise ValueError(f"Config.{field} is {getattr(self, field)!r}; it must be {allowed}")

    @property
    def multiple(self) -> int:
        """Pixels that height and width must be a multiple of: the hyper latent's cell, or the attention windows'."""
        if self.fusion != "attention":
            return HYPER_STRIDE
        coarsening = (4, 2, 1) if self.hierarchy else (1, 1, 1)  # of the latent on scales 1, 2, 3
        sides = [window * LATENT_STRIDE * times for window, times in zip(self.windows, coarsening, strict=True)]
        return max(HYPER_STRIDE, *sides)

    def lambda_of(self, level: Any) -> Any:
        """The weight of the distortion in the loss (lambda * 255^2 * MSE + bpp) of a quality level, or of each [B].

        Levels are spaced logarithmically. A model of one level has one lambda, in units of the loss it is trained for.
        """
        if self.levels == 1:
            return self.lambda_min + 0 * level
        return self.lambda_min * (self.lambda_max / self.lambda_min) ** (level / (self.levels - 1))

    def weight_of(self, level: Any, loss: str = "mse") -> Any:
        """The weight of the distortion of a quality level, or of each [B], in units of the loss.

        `loss` is one of defaults.LOSSES. The one lambda of a single-level model is in these units already.
        """
        weight = self.lambda_of(level)
        return weight * MS_SSIM_WEIGHT if loss == "ms-ssim" and self.levels > 1 else weight

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Config:
        """Reads what `to_dict` wrote, also after a trip through JSON. Raises TypeError or ValueError."""
        values = {key: _frozen(value) for key, value in fields.items()}
        for key in ("prior_coarse", "prior_fine"):
            if isinstance(fields.get(key), dict):
                values[key] = Prior(**fields[key])
        return cls(**values)


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_positive(value: Any) -> bool:
    """Whether it is a positive number that a float holds."""
    is_number = isinstance(value, float | int) and not isinstance(value, bool)
    return is_number and 0 < value <= sys.float_info.max


def _three(values: Any, low: int, high: int) -> bool:
    """Whether these are whole numbers for scales 1, 2, 3."""
    return isinstance(values, tuple) and len(values) == 3 and all(_whole(value, low, high) for value in values)


def _are_stages(stages: Any) -> bool:
    return isinstance(stages, tuple) and 0 < len(stages) <= MAX_STAGES and all(map(_is_stage, stages))


def _is_stage(stage: Any) -> bool:
    if not isinstance(stage, tuple) or len(stage) != 2:
        return False
    blocks, width = stage
    return _whole(blocks, 0, MAX_BLOCKS) and _whole(width, 1, MAX_WIDTH)


def _is_prior(prior: Any) -> bool:
    return isinstance(prior, Prior) and all(_whole(count, 0, MAX_BLOCKS) for count in dataclasses.astuple(prior))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, (list, tuple)) else value


def receptive_halo(config: Config) -> int:
    """Latents next to a region that its pixels can depend on through g_a or g_s, rounded up.

    Counts one position per 3x3 convolution at its own stride, and one for a 4x4 stem; the transforms have no other
    reach, so a picture analysed or synthesised in pieces with this halo equals one done whole.
    """
    stride = STEMS[config.stem]
    analysis_reach = synthesis_reach = 2 if config.stem == "conv4" else 0  # pixels
    for stage, (blocks, _) in enumerate(config.analysis):
        analysis_reach += blocks * stride * 2**stage
    for stage, (blocks, _) in enumerate(reversed(config.synthesis)):
        synthesis_reach += blocks * stride * 2**stage
    return math.ceil(max(analysis_reach, synthesis_reach) / LATENT_STRIDE)


BASE = Config(
    name="base",
    M=320,
    N=256,
    stem="conv4",
    analysis=((2, 96), (2, 192), (4, 384), (0, 320)),
    synthesis=((0, 320), (4, 384), (2, 192), (2, 96)),
    hyper_analysis=((1, 320), (3, 256)),
    hyper_synthesis=((3, 256), (1, 640)),
    partial=4,
    ratio=4,
    prior_width=960,
    prior_coarse=Prior(before=2, after=1),
    prior_fine=Prior(before=3, after=2),
    fusion="attention",
    lambda_min=0.0130,
)
BASE_PHI = replace(BASE, name="base-phi", fusion="psi")
LARGE = replace(
    BASE,
    name="large",
    analysis=((2, 96), (2, 192), (8, 384), (0, 320)),
    synthesis=((0, 320), (8, 384), (2, 192), (2, 96)),
    prior_coarse=Prior(before=2, after=2),
    prior_fine=Prior(before=4, after=3),
)
B1 = replace(
    BASE,
    name="1b",
    M=512,
    stem="conv2",
    analysis=((3, 192), (9, 384), (3, 768), (3, 512)),
    synthesis=((3, 512), (9, 768), (3, 384), (3, 192)),
    hyper_analysis=((4, 512), (9, 512)),
    hyper_synthesis=((9, 512), (4, 1024)),
    partial=2,
    prior_width=1536,
    prior_coarse=Prior(before=5, after=3, tail=2),
    prior_fine=Prior(before=6, after=4, tail=2),
    adaptor_blocks=(5, 5, 7),
    fusion="psi",
)
# Between scales, with psi as the context, a 1x1 convolution followed by the next step's own 1x1 is one linear map: our
# models leave it out.
NANO = Config(
    name="nano",
    M=192,
    N=64,
    stem="unshuffle8",
    analysis=((3, 128), (0, 192)),
    synthesis=((0, 192), (3, 128)),
    hyper_analysis=((1, 192), (0, 64)),
    hyper_synthesis=((1, 64), (0, 384)),
    partial=4,
    ratio=2,
    prior_width=128,
    prior_coarse=Prior(before=1, after=1),
    prior_fine=None,
    context_net=False,
    refine=True,
    interpolation="paired",
    levels=64,
    lambda_min=0.001,
    lambda_max=0.064,
)
LITE = replace(
    NANO,
    name="lite",
    M=256,
    N=128,
    analysis=((4, 256), (0, 256)),
    synthesis=((0, 256), (4, 256)),
    hyper_analysis=((1, 256), (1, 128)),
    hyper_synthesis=((2, 128), (0, 512)),
    ratio=3,
    prior_width=256,
    prior_fine=Prior(before=2, after=1),
)
MODELS = {config.name: config for config in (NANO, LITE, BASE, BASE_PHI, LARGE, B1)}
