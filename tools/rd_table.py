"""The paper's rate-distortion table: BD-rate (PSNR, Kodak) against VTM, as published and as measured here.

    python tools/rd_table.py [REPORT]

REPORT is the folder of an evaluation. The authors' models have one weights file for each rate, so import them all
(`hpcm import CHECKPOINT --arch base -o base-0.0018.safetensors`, and so on) and evaluate them together:

    hpcm eval KODAK --model base-*.safetensors -o REPORT

Models whose names begin alike up to the last `-` become one curve.
"""

import sys
from pathlib import Path

from hpcm.eval.anchors import points_of, published
from hpcm.eval.bdrate import Curve, delta
from hpcm.eval.report import markdown
from hpcm.eval.results import Results, load

# What the papers print; their anchor is another VTM than that of the published curve, so that columns differ.
PAPERS = {
    "LALIC": ("-15.26%", "VTM-9.1, its abstract; -14.84% in the first version, arXiv 2502.05741v1"),
    "DCAE": ("", "arXiv 2504.00496"),
    "HPCM-Base": ("", "arXiv 2507.19125"),
    "HPCM-Large": ("-19.19%", "VTM-22.0, README of LIC-HPCM"),
    "HPCM-1B": ("", "arXiv 2508.09075"),
}
CURVES = {
    "LALIC": "kodak/lalic",
    "DCAE": "kodak/dcae",
    "HPCM-Base": "kodak/hpcm-base",
    "HPCM-Large": "kodak/hpcm-large",
}  # published points that are pinned
MORE = ("kodak/elic2022", "kodak/cheng2020-attn", "kodak/mbt2018", "kodak/bpg", "kodak/av1")


def families(results: Results) -> dict[str, list[tuple[float, float]]]:
    """Points of each measured codec; those of one architecture's checkpoints together."""
    points: dict[str, list[tuple[float, float]]] = {}
    for name, codec in results.codecs.items():
        family = name.rpartition("-")[0] or name if len(codec.points) == 1 else name
        points.setdefault(family, []).extend(codec.curve("psnr") or ())
    return points


def main() -> None:
    curves = published()
    vtm = Curve(points_of(curves["kodak/vtm"], "psnr"))

    def against_vtm(points: list[tuple[float, float]]) -> str:
        try:
            change = delta(vtm, Curve(points))
        except ValueError as error:
            return str(error)
        return (
            "-" if change.percent is None else f"{change.percent:+.2f}%" + "".join(f" ({w})" for w in change.warnings)
        )

    rows = []
    for label, (paper, source) in PAPERS.items():
        computed = against_vtm(points_of(curves[CURVES[label]], "psnr")) if label in CURVES else ""
        rows.append([label, paper, computed, source])
    rows += [[curves[n].label, "", against_vtm(points_of(curves[n], "psnr")), curves[n].source] for n in MORE]
    if len(sys.argv) > 1:
        results = load(Path(sys.argv[1]))
        if results.whole_set != "kodak":
            sys.exit(f"{sys.argv[1]} is not an evaluation of Kodak's 24 pictures, and the published curves are")
        rows += [[name, "", against_vtm(points), "measured"] for name, points in families(results).items()]
    print(markdown(["codec", "paper", "from points", "source"], rows))


if __name__ == "__main__":
    main()
