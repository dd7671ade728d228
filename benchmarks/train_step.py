"""How fast is a step of DPO, beside TRL's DPOTrainer? Prints a Markdown table.

    python benchmarks/train_step.py                                  # length-grouped, float32, some three minutes
    python benchmarks/train_step.py --precision float32,bfloat16 --reference cached,live --peer best,default
    python benchmarks/train_step.py --order random --second

Both sides run their real training loops, each in a process of its own, on the same weights, token ids, batches, loss,
optimizer and clipping. They work in turns, step after step, the order reversed every other step, so that whatever
else the machine does meets both; CPU time is the fairer clock where it does much. A step is forward, backward,
clipping and update; batches are collated before. One step of short pairs comes first and is dropped.

*lit-pref*: ``PreferenceModule`` and ``PreferenceData`` with default settings under lit-pref's Trainer, no callbacks.
*TRL best*: without gradient checkpointing, which its users have to ask for; where lit-pref computes in bfloat16, TRL
runs in bfloat16 and in float32, and the faster one is its best. *TRL default*: with gradient checkpointing.
*TRL tuned*: its best, in a process that keeps large blocks of memory instead of handing them back: lit-pref
does so by itself, for others there are environment variables. *TRL compacted*: tuned, and its kernel of the output
embedding sees response positions alone, as it does on CUDA but not on CPU; one line of TRL would have to change for
that. In all of these, the precision and whether log-probabilities of
the reference are computed before training are those of the row. TRL also computes entropies, mean logits and accuracies
of tokens in every step, and has no option to leave them out. Both get the fused AdamW, TRL's default.

*grouped*: batches of rows of near-equal length, which leave TRL as little padding as sorting can. *random*: as drawn.
Tokens count once a prompt. *memory*: peak beyond weights, gradients and optimizer. *useful*: share of the machine's
best matrix product that the step's least possible operations make up: 6 a weight and token, prompts once, causal
attention, and the output embedding on response tokens. Ratios are TRL's time by lit-pref's, medians over steps, with
the smallest and the largest. Weights are random; float32 losses of the two sides must agree.
"""

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from training_pairs import HH, TOKENIZER, batches_of, long_responses, read_pairs, write_pairs
from training_shapes import SHAPES, SavedModel, floor_of, saved_model, shape_of, unique_tokens
from training_sides import LIT_PREF, Side, Step, Task, Worker, beyond_held, in_turns, workers

from lit_pref.batch import Pair
from lit_pref.console import say

PEERS = ("best", "default", "tuned", "compacted")
HEADLINE = ("smol", "qwen")
#: float32 losses of two sides that train alike differ by less.
SAME = 1e-3
COLUMNS = (
    "shape", "pairs", "reference", "side", "precision", "s/step, wall", "s/step, CPU", "tokens/CPU s", "memory",
    "useful", "ratio, CPU", "ratio, wall", "losses differ by",
)  # fmt: skip


class Case(NamedTuple):
    """What a group of lines of the table has in common."""

    shape: str
    pairs: int
    precision: str
    reference: str


class Result(NamedTuple):
    """One side's steps, without the dropped one; all its losses."""

    side: Side
    steps: list[Step]
    losses: list[float]
    memory: float
    peak: float

    @property
    def cpu(self) -> float:
        return sum(step.cpu for step in self.steps)

    @property
    def wall(self) -> float:
        return sum(step.wall for step in self.steps)


def main() -> None:
    args = _arguments()
    pairs = read_pairs(args.data, args.tokenizer)
    pairs = long_responses(pairs) if args.second else pairs
    say(f"{len(pairs)} pairs{' with joined responses' if args.second else ''}, {_mean_lengths(pairs)}; {args.order} "
        f"batches; {args.steps} timed steps; {args.threads} thread(s) a side; torch {torch.__version__}\n")  # fmt: skip
    say(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    ratios: dict[Case, float] = {}
    apart: list[float] = []
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        models = {name: saved_model(shape_of(name, args.tiny), Path(folder) / name) for name in args.shapes}
        for case in _cases(args):
            ours, peers, batches = _measured(case, models[case.shape], pairs, args, Path(folder))
            for line in _lines(case, models[case.shape], batches, ours, peers):
                say(line)
            ratios[case] = _median([a.cpu / b.cpu for a, b in zip(peers[0].steps, ours.steps, strict=True)])
            losses += ours.losses
            apart += [_apart(ours, peer) for peer in peers if _all_float32(ours, peer)]
    alike = f"; in float32, those of the two sides are at most {max(apart):.1e} apart" if apart else ""
    say(f"\nlosses lie between {min(losses):.4f} and {max(losses):.4f}{alike}")
    say(_headline(ratios, args))
    if not all(each < SAME for each in apart):
        sys.exit("the two sides do not train alike, so their times do not compare")


def _cases(args: argparse.Namespace) -> Iterator[Case]:
    for shape, count, precision, reference in product(args.shapes, args.pairs, args.precision, args.reference):
        yield Case(shape, count, precision, reference)


def _sides(case: Case, peers: Sequence[str]) -> list[Side]:
    """lit-pref first; of TRL's best in bfloat16 there are two, since bfloat16 is not always the faster there."""
    cached = case.reference == "cached"
    sides = [Side(LIT_PREF, case.precision, cached)]
    for peer in peers:
        both = peer == "best" and case.precision != "float32"
        for precision in (case.precision, "float32") if both else (case.precision,):
            sides.append(
                Side(
                    f"TRL {peer}",
                    precision,
                    cached,
                    peer == "default",
                    peer == "compacted",
                    peer in ("tuned", "compacted"),
                )
            )
    return sides


def _measured(
    case: Case, model: SavedModel, pairs: list[Pair], args: argparse.Namespace, folder: Path
) -> tuple[Result, list[Result], list[list[Pair]]]:
    """lit-pref's result, TRL's with the one to compare with first, and the batches that count."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        stored = Path(scratch) / "pairs"
        chosen = batches_of(pairs, case.pairs, args.steps, args.order == "grouped")
        batches = write_pairs(stored, chosen, model.config.vocab_size)
        task = Task(model.folder, stored, Path(scratch), args.tokenizer, case.pairs, args.threads)
        if args.tiny:  # so small a model hardly moves
            task = task._replace(peak_size=128, learning_rate=1e-3)
        with workers(_sides(case, args.peer), task) as started:
            steps = in_turns(started)
            ours, *peers = (_result(worker, steps[worker.side], model) for worker in started)
    # The first peer that is asked for; of two precisions of it, the faster one.
    peers.sort(key=lambda peer: (args.peer.index(peer.side.name.removeprefix("TRL ")), peer.cpu))
    return ours, peers, batches[1:]


def _result(worker: Worker, steps: list[Step], model: SavedModel) -> Result:
    memory = beyond_held(steps[-1], model.parameters)
    return Result(worker.side, steps[1:], [step.loss for step in steps], memory, worker.peak)


def _lines(
    case: Case, model: SavedModel, batches: list[list[Pair]], ours: Result, peers: list[Result]
) -> Iterator[str]:
    """The lines of the table of one case."""
    tokens = sum(map(unique_tokens, batches))
    floor = sum(floor_of(model, batch).total for batch in batches)
    for result in (ours, *peers):
        cells = [
            case.shape, str(case.pairs), case.reference, result.side.name, result.side.precision,
            *(f"{seconds / len(result.steps):.3g}" for seconds in (result.wall, result.cpu)),
            f"{tokens / result.cpu:,.0f}", f"{result.memory:,.0f} MB", f"{floor / result.cpu / result.peak:.0%}",
            *(_compared(ours, result) if result is not ours else ("", "", "")),
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _compared(ours: Result, peer: Result) -> tuple[str, str, str]:
    ratios = ([getattr(a, key) / getattr(b, key) for a, b in zip(peer.steps, ours.steps, strict=True)]
              for key in ("cpu", "wall"))  # fmt: skip
    cpu, wall = (f"{_median(each):.1f}x [{min(each):.1f}-{max(each):.1f}]" for each in ratios)
    return cpu, wall, f"{_apart(ours, peer):.1e}"


def _apart(ours: Result, peer: Result) -> float:
    """Largest difference between losses of the same step."""
    return max(abs(a - b) for a, b in zip(ours.losses, peer.losses, strict=True))


def _all_float32(*results: Result) -> bool:
    return all(result.side.precision == "float32" for result in results)


def _headline(ratios: dict[Case, float], args: argparse.Namespace) -> str:
    """The geometric mean over large vocabularies in float32, or over whatever was run where that was not."""
    asked = {case: ratio for case, ratio in ratios.items() if case.precision == "float32" and case.shape in HEADLINE}
    asked = asked or ratios
    mean = math.exp(statistics.fmean(map(math.log, asked.values())))
    names, precisions = (", ".join(dict.fromkeys(getattr(c, key) for c in asked)) for key in ("shape", "precision"))
    return (
        f"{names}; {args.order}, {precisions}: lit-pref trains on {mean:.1f}x as many pairs per CPU second "
        f"as TRL {args.peer[0]}"
    )


def _mean_lengths(pairs: Sequence[Pair]) -> str:
    means = (statistics.fmean(len(getattr(p, key)) for p in pairs) for key in ("prompt", "chosen", "rejected"))
    return "tokens on average: prompt {:.0f}, chosen {:.0f}, rejected {:.0f}".format(*means)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=HH, help="any data.path")
    parser.add_argument("--tokenizer", default=TOKENIZER, help="folder or hub name")
    parser.add_argument("--shapes", type=_some_of(*SHAPES), default=list(SHAPES), help="comma-separated")
    parser.add_argument("--order", choices=("grouped", "random"), default="grouped", help="what batches are made of")
    parser.add_argument(
        "--pairs", type=lambda text: [int(n) for n in text.split(",")], default=[4], help="a batch: 4,8"
    )
    parser.add_argument("--precision", type=_some_of("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--reference", type=_some_of("cached", "live"), default=["cached"])
    parser.add_argument(
        "--peer", type=_some_of(*PEERS), default=["best"], help="TRL how; the last line takes the first"
    )
    parser.add_argument("--steps", type=int, default=2, help="timed, after one that is dropped")
    parser.add_argument("--second", action="store_true", help="other data: short prompts, joined responses")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on each side")
    parser.add_argument("--tiny", action="store_true", help="models of no size, to see that it runs")
    return parser.parse_args()


def _some_of(*choices: str) -> Callable[[str], list[str]]:
    """A parser of comma-separated words."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        if not set(words) <= set(choices):
            raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(choices)}")
        return words

    return parse


if __name__ == "__main__":
    main()
