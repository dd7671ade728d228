"""Draws the picture of the README from a run's metrics.csv; imports no torch.

python benchmarks/quickstart_figure.py runs/quickstart/version_0 docs/quickstart.png
"""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000"]
STYLES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1))]


def curves(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """tag -> steps and values, in order of steps."""
    points: dict[str, dict[int, float]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            for tag, value in row.items():
                if value and tag != "step":
                    points.setdefault(tag, {})[int(row["step"])] = float(value)
    return {tag: (sorted(p), [p[step] for step in sorted(p)]) for tag, p in points.items()}


def draw(found: dict[str, tuple[list[int], list[float]]], path: Path) -> None:
    """Left: chosen and rejected against the reference. Right: mean probability of first response tokens."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), dpi=150, layout="constrained")
    names = {"chosen": "chosen", "worst_decile": "chosen, worst tenth", "rejected": "rejected", "margin": "margin"}
    for i, (name, label) in enumerate(names.items()):
        left.plot(*found[f"displacement/{name}/val"], color=COLOURS[i], linestyle=STYLES[i], label=label)
    left.axhline(0, color="grey", linewidth=0.8)
    left.set(xlabel="optimizer steps", ylabel="change of log-probability (nats)", title="Both responses fall")
    tokens = [tag for tag in found if tag.startswith("mass/")]
    tokens.sort(key=lambda tag: -max(found[tag][1]))
    for i, tag in enumerate(tokens[: len(COLOURS)]):
        right.plot(*found[tag], color=COLOURS[i], linestyle=STYLES[i], label=tag.split("/")[1])
    right.set(xlabel="optimizer steps", ylabel="mean probability", title="Where the mass goes", ylim=(0, None))
    for axis in (left, right):
        # Below the axes, where no curve can run through it.
        axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4)
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("picture", type=Path, help="file to draw, .png or .svg")
    arguments = parser.parse_args()
    draw(curves(arguments.run / "metrics.csv"), arguments.picture)


if __name__ == "__main__":
    main()
