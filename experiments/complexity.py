"""The paper's complexity table: parameters and kMACs per pixel, computed, beside what was published.

    python experiments/complexity.py [--against CHECKOUT]...

CHECKOUT is one of the code of DCAE, LALIC or DCVC, whose rows then stand below; see hpcm/eval/bench/learned.py.

"Unused" is the context fusion after the last step, which the released code computes and nobody needs: published costs
include it, ours don't. "As published" is our count with it, rounded as the published ones are. No weights are needed.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

from hpcm.eval.bench.learned import open_checkout
from hpcm.eval.cost import kmacs, parameters
from hpcm.eval.report import markdown
from hpcm.model.config import B1, BASE, BASE_PHI, LARGE, LITE, NANO, Config

# Model, millions of parameters of the released code, published kMACs per pixel (arXiv 2507.19125; 1B: its poster).
ROWS: tuple[tuple[str, Config, float | None, float | None], ...] = (
    ("HPCM-Base", BASE, 68.505, 918.57),
    ("HPCM-Large", LARGE, 89.719, 1261.29),
    ("HPCM-1B", B1, 1000.328, 9625.0),
    ("HPCM-Base-Phi", BASE_PHI, 63.582, 872.79),
    ("Base, steps (2, 3, 3)", replace(BASE, steps=(2, 3, 3)), None, 663.90),
    ("Base, steps (2, 3, 12)", replace(BASE, steps=(2, 3, 12)), None, 1427.91),
    ("Base, steps (4, 3, 6)", replace(BASE, steps=(4, 3, 6)), None, 925.59),
    ("Base, no hierarchy", replace(BASE, hierarchy=False), None, 1107.48),
    ("Base, no progressive context", replace(BASE, fusion="none"), None, 873.0),
    ("NANO (ours)", NANO, None, None),
    ("LITE (ours)", LITE, None, None),
)
LATENT_PIXELS = 16**2
PICTURE_PIXELS = 256**2  # of the picture that published costs refer to


def unused(config: Config) -> float:
    """kMACs per pixel of the attention after the last step."""
    if config.fusion != "attention":
        return 0.0
    width, window = 2 * config.M, config.windows[2]
    return (4 * width**2 + 2 * width * window**2) / LATENT_PIXELS / 1000


def as_published(kmacs_per_pixel: float) -> float:
    """kMACs per pixel as the paper has them: 10^9 MACs of a picture with two digits, divided, cut after two digits.

    So every published cost that ours confirm comes out to the last digit.
    """
    billions = round(kmacs_per_pixel * PICTURE_PIXELS / 1e6, 2)
    return math.floor(billions * 1e8 / PICTURE_PIXELS) / 100


def formatted(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, action="append", default=[], metavar="CHECKOUT")
    options = parser.parse_args()
    heads = ["model", "parameters (M)", "released", "kMACs/pixel", "as published", "published", "entropy model"]
    rows = []
    for label, config, published_parameters, published_kmacs in ROWS:
        groups = kmacs(config)
        total = sum(groups.values())
        transforms = groups["g_a"] + groups["g_s"]
        row = [label, formatted(parameters(config) / 1e6, 3), formatted(published_parameters, 3), formatted(total, 2)]
        row.append(formatted(as_published(total + unused(config)) if published_kmacs else None, 2))
        row += [formatted(published_kmacs, 2), f"{1 - transforms / total:.0%}"]
        rows.append(row)
    for checkout in options.against:
        other = open_checkout(checkout)
        rows.append([other.name, formatted(other.parameters / 1e6, 3), "", formatted(other.kmacs, 2), "", "", ""])
    print(markdown(heads, rows))


if __name__ == "__main__":
    main()
