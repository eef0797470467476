"""The paper's ablation table at a small scale: each trained alike at NANO's widths, BD-rate beside the published one.

    python experiments/ablations.py PICTURES --data DIR... --steps N [--out FOLDER] [--only NAME...]

PICTURES is what is evaluated on (Kodak's folder, say), DIR what is trained on. The reference is NANO with Base's window
attention and 1x1 convolutions between scales; an ablation is one `replace` of it, as of Base in the paper. All see the
same number of crops of 256 x 256, which attention needs. A few thousand steps rank the larger effects at best: the
paper's models took two million. Runs resume, so that the command may be stopped and given again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from hpcm.eval.evaluate import Options as Evaluation
from hpcm.eval.evaluate import evaluate, find_pictures
from hpcm.eval.report import markdown
from hpcm.model.config import NANO, Config
from hpcm.train.loop import train
from hpcm.train.options import Options
from hpcm.util.hardware import keep_pages

REFERENCE = replace(NANO, name="reference", fusion="attention", context_net=True)
# Name: (configuration, the paper's BD-rate against Base; arXiv 2507.19125)
ABLATIONS: dict[str, tuple[Config, str]] = {
    "reference": (REFERENCE, "0"),
    "no-hierarchy": (replace(REFERENCE, hierarchy=False), "+1.07%"),
    "steps-2-3-3": (replace(REFERENCE, steps=(2, 3, 3)), "+2.39%"),
    "steps-2-3-12": (replace(REFERENCE, steps=(2, 3, 12)), "-2.55%"),
    "steps-4-3-6": (replace(REFERENCE, steps=(4, 3, 6)), "+0.35%"),
    "psi": (replace(REFERENCE, fusion="psi"), "+1.17%"),
    "no-progress": (replace(REFERENCE, fusion="none"), "+4.71%"),
}
CROP = 256  # pixels; a multiple of what attention without hierarchy or with it needs
QUALITIES = (9, 24, 40, 56, 72)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The paper's ablations at NANO's widths.")
    parser.add_argument("pictures", nargs="+", help="pictures or folders to evaluate on")
    parser.add_argument("--data", nargs="+", required=True, help="folders or archives to train on")
    parser.add_argument("--steps", type=int, required=True, help="of each training run")
    parser.add_argument("--batch", type=int, default=4, help="crops per step (default: 4)")
    parser.add_argument(
        "--out", type=Path, default=Path("experiments/out/ablations"), help="default: experiments/out/ablations"
    )
    parser.add_argument("--only", nargs="+", choices=list(ABLATIONS), help="besides the reference")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    keep_pages()
    names = [name for name in ABLATIONS if name == "reference" or name in (given.only or ABLATIONS)]
    for name in names:
        options = Options(replace(ABLATIONS[name][0], name=name), crop=CROP, batch=given.batch, evaluate=0)
        train(options, given.data, given.out / name, steps=given.steps, resume=True)
    models = [str(given.out / name) for name in names]
    evaluation = Evaluation(models=models, codecs=(), qualities=QUALITIES, side_by_side=0)
    results = evaluate(find_pictures(given.pictures), given.out / "report", evaluation)
    changes = results.bd_rate["psnr"].get("reference", {})
    rows = []
    for name in names:
        percent = changes[name].percent if name in changes else None
        rows.append([name, "-" if percent is None else f"{percent:+.2f}%", ABLATIONS[name][1]])
    print(markdown(["ablation", f"BD-rate after {given.steps} steps", "published"], rows))


if __name__ == "__main__":
    main()
