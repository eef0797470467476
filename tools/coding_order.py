"""The coding order as an animated drawing, from the table that the codec uses: docs/coding-order.svg.

python tools/coding_order.py [-o docs/coding-order.svg]

Eight groups of channels, each with the 8 x 8 places after which its pattern repeats. A place lights up at its step, in
the colour of its scale, and carries the step's number. Where animations are unwanted, all places are lit.
"""

import argparse
from itertools import product
from pathlib import Path

from hpcm.model.config import GROUPS, LITE
from hpcm.model.order import PERIOD, steps_of, table
from hpcm.util import atomic

CELL, GAP, MARGIN, COLUMNS = 18, 26, 14, 4  # pixels; groups in a row
HEAD = 58  # pixels above the groups
SECONDS = 0.9  # for each step
WHOLE = 3  # steps for which the whole is shown first, also to viewers that stand still
COLOURS = ("#1b6ca8", "#2a9d6f", "#e0a030")  # of scales 1, 2, 3
SCALES = ("quarter resolution", "half resolution", "full resolution")


def drawing() -> str:
    steps, order = steps_of(LITE), table(LITE.steps)
    side = PERIOD * CELL
    width = 2 * MARGIN + COLUMNS * side + (COLUMNS - 1) * GAP
    height = HEAD + MARGIN + GROUPS // COLUMNS * (side + GAP)
    duration = SECONDS * (WHOLE + 1 + len(steps))
    dark = 100 * SECONDS * WHOLE / duration  # percent
    style = [
        "text{font:11px sans-serif;fill:#333;text-anchor:middle}.l{text-anchor:start;font-size:12px}",
        ".n{font-size:9px;fill:#fff}",
        "@media (prefers-reduced-motion: no-preference){",
    ]
    for step in steps:
        lit = 100 * SECONDS * (WHOLE + 1 + step.index) / duration
        frames = f"0%,{dark:.1f}%{{opacity:1}}{dark + 1:.1f}%,{lit - 1:.1f}%{{opacity:0}}{lit:.1f}%,100%{{opacity:1}}"
        style.append(f"@keyframes k{step.index}{{{frames}}}")
        style.append(f".s{step.index}{{animation:k{step.index} {duration:.1f}s infinite}}")
    style.append("}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<title>The coding order: which places of the latent are coded at which step</title>",
        f"<style>{''.join(style)}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for scale, (colour, name) in enumerate(zip(COLOURS, SCALES, strict=True)):
        numbers = [step.index for step in steps if step.scale == scale]
        x = MARGIN + scale * (width - 2 * MARGIN) // len(SCALES)
        parts.append(f'<rect x="{x}" y="14" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text class="l" x="{x + 20}" y="25">steps {numbers[0]}-{numbers[-1]}: {name}</text>')
    for group in range(GROUPS):
        left = MARGIN + group % COLUMNS * (side + GAP)
        top = HEAD + group // COLUMNS * (side + GAP)
        parts.append(f'<text x="{left + side / 2:g}" y="{top - 6}">group {group}</text>')
        parts.append(f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="#eee"/>')
        for i, j in product(range(PERIOD), repeat=2):
            step = steps[int(order[group, i, j])]
            x, y = left + j * CELL, top + i * CELL
            colour = COLOURS[step.scale]
            parts.append(
                f'<g class="s{step.index}"><rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" '
                f'fill="{colour}"/>'
                f'<text class="n" x="{x + CELL / 2 - 0.5:g}" y="{y + 12}">{step.index}</text></g>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/coding-order.svg"))
    atomic.write(parser.parse_args().output, drawing().encode(), force=True)
