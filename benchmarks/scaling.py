"""How does the time of lit-pref's step of DPO grow with its work? Prints a Markdown table.

    python benchmarks/scaling.py                           # SmolLM2-like shape, float32
    python benchmarks/scaling.py --shape qwen --precision bfloat16

Three sweeps, each with the other sizes fixed: pairs a step, tokens a row, and the share of a row that is its prompt.
Rows of a sweep are equally long, and tokens count once a prompt. Times are CPU seconds of the real training loop,
medians over steps behind one that is dropped. A slope is that of the logarithm of time over that of tokens: 1 where
each token costs the same. Beside it stands the slope of a step's least possible operations, in which attention grows
faster than tokens, and the output embedding with responses alone: what the two share is work that cannot be saved.
"""

import argparse
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from training_pairs import TOKENIZER, equal_pairs, write_pairs
from training_shapes import SHAPES, Floor, SavedModel, floor_of, saved_model, shape_of, unique_tokens
from training_sides import LIT_PREF, Side, Task, in_turns, workers

from lit_pref.console import say

#: Slopes within this of 1 are called even.
EVEN = 0.05


class Point(NamedTuple):
    """One row of the table."""

    size: float
    tokens: int
    seconds: float
    floor: Floor


def main() -> None:
    args = _arguments()
    say(f"{args.shape}; {args.precision}; {args.threads} thread(s); torch {torch.__version__}\n")
    say("| sweep | size | tokens | CPU s/step | µs/token | operations/token |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        model = saved_model(shape_of(args.shape, args.tiny), Path(folder) / "model")
        sweeps = _measured(model, args)
    for name, points in sweeps.items():
        for point in points:
            per_token = point.seconds / point.tokens * 1e6, point.floor.total / point.tokens / 1e6
            say(f"| {name} | {point.size:g} | {point.tokens} | {point.seconds:.4g} | {per_token[0]:.1f} |"
                f" {per_token[1]:.1f}M |")  # fmt: skip
    say("")
    for name, points in sweeps.items():
        say(sentence(name, points))
    first, last = sweeps["pairs"][0], sweeps["pairs"][-1]
    say(f"\n{last.size / first.size:.1f}x as many pairs take {last.seconds / first.seconds:.1f}x the CPU time")


def sentence(name: str, points: Sequence[Point]) -> str:
    """What a sweep shows: its slope and, where that is not near 1, what of it cannot be saved."""
    measured, least = (
        slope([p.tokens for p in points], [value(p) for p in points])
        for value in (lambda p: p.seconds, lambda p: p.floor.total)
    )
    text = f"{name}: CPU time grows as tokens^{measured:.2f}, least operations as tokens^{least:.2f}"
    if abs(measured - 1) <= EVEN:
        return f"{text}; each token costs about the same."
    shares = (
        f"{part} {getattr(points[0].floor, part) / points[0].floor.total:.0%} to "
        f"{getattr(points[-1].floor, part) / points[-1].floor.total:.0%}"
        for part in ("attention", "head")
    )
    moved = f"shares of the operations go from {' and '.join(shares)}"
    if abs(measured - least) < abs(measured - 1):
        return f"{text}; not near 1, and neither is the work itself: {moved}."
    why = (
        "what every step costs, such as the optimizer's, is shared by more of them"
        if measured < least
        else ("the machine gets less done in a second where steps are large")
    )
    return f"{text}; not near 1, though the work is nearer: {why} ({moved})."


def slope(tokens: Sequence[float], values: Sequence[float]) -> float:
    """Least squares through logarithms."""
    return statistics.linear_regression([math.log(n) for n in tokens], [math.log(v) for v in values]).slope


def _measured(model: SavedModel, args: argparse.Namespace) -> dict[str, list[Point]]:
    """All points of all sweeps, in one process."""
    sweeps: dict[str, dict[float, tuple[int, int, float]]] = {
        "pairs": {n: (n, args.length // 4, 0.5) for n in args.pairs},
        "length": {n: (4, n, 0.5) for n in args.lengths},
        "prompt share": {n: (4, args.length, n) for n in args.shares},
    }
    tasks, batches = [], []
    for number, sizes in enumerate(sizes for sweep in sweeps.values() for sizes in sweep.values()):
        batches.append(equal_pairs(*sizes))
        scratch = model.folder.parent / str(number)
        scratch.mkdir()
        write_pairs(scratch / "pairs", [batches[-1]] * (args.steps + 1), model.config.vocab_size)
        tasks.append(Task(model.folder, scratch / "pairs", scratch, args.tokenizer, sizes[0], args.threads, 128))
    side = Side(LIT_PREF, args.precision)
    with workers([side], *tasks) as started:
        steps = iter(in_turns(started)[side])
    points = []
    for batch in batches:
        _, *timed = (next(steps) for _ in range(args.steps + 1))
        seconds = statistics.median(step.cpu for step in timed)
        points.append((unique_tokens(batch), seconds, floor_of(model, batch)))
    rest = iter(points)
    return {name: [Point(size, *next(rest)) for size in sweep] for name, sweep in sweeps.items()}


def _whole_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="smol")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--pairs", type=_whole_numbers, default=[1, 2, 4, 8, 16, 32], help="a step; comma-separated")
    parser.add_argument("--lengths", type=_whole_numbers, default=[64, 128, 256, 512, 1024], help="tokens a row")
    parser.add_argument("--shares", type=lambda text: [float(n) for n in text.split(",")],
                        default=[0.1, 0.25, 0.5, 0.75, 0.9], help="of a row that its prompt has")  # fmt: skip
    parser.add_argument("--length", type=int, default=512, help="of rows where shares are swept, four times of pairs'")
    parser.add_argument("--steps", type=int, default=3, help="timed, after one that is dropped")
    parser.add_argument("--tokenizer", default=TOKENIZER, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--tiny", action="store_true", help="a model of no size and few sizes, to see that it runs")
    args = parser.parse_args()
    if args.tiny:
        args.pairs, args.lengths, args.shares, args.length, args.steps = [1, 2], [8, 16], [0.25, 0.75], 32, 1
    return args


if __name__ == "__main__":
    main()
