"""Where does the time of one training step go, and what is the least it could take? Prints a Markdown table a shape.

    python benchmarks/profile_step.py                 # three shapes, 4 pairs of HH, one thread, about two minutes

*before*: pairs padded, logits of all response tokens at once, by torch's own operations. *after*: what lit-pref does.
Forward and backward of the DPO loss with cached log-probabilities of the reference, CPU seconds of torch's profiler,
summed over the batches. *floor*: the operations that no exact step does without (6 a weight and token, prompts once a
pair, causal attention, the output embedding on response tokens) at the speed of the machine's best matrix product.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from training_pairs import HH, TOKENIZER, batches_of, read_pairs, write_pairs
from training_shapes import SHAPES, SavedModel, floor_of, matmul_peak, saved_model, shape_of
from transformers import AutoModelForCausalLM

from lit_pref import scoring
from lit_pref.batch import PreferenceBatch, collate
from lit_pref.console import say
from lit_pref.fast_path import FastPath, fast_path
from lit_pref.logit_tiles import TILE
from lit_pref.scoring import score
from objectives import DPO, PairScores, SequenceScores

PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::linear")
PARTS = ("matrices of the layers", "attention", "output embedding", "everything else")


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    pairs = read_pairs(args.data, args.tokenizer)
    ratio = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name in args.shapes:
            saved = saved_model(shape_of(name, args.tiny), Path(folder) / name)
            stored = Path(folder) / f"{name}_pairs"
            chosen = write_pairs(stored, batches_of(pairs, args.pairs, args.steps, True), saved.config.vocab_size)[1:]
            ratio = _shape(name, saved, chosen, args)
    say(f"\nthe last shape takes {ratio:.1f}x as long before")


def _shape(name: str, saved: SavedModel, pairs: list[Any], args: argparse.Namespace) -> float:
    model = AutoModelForCausalLM.from_pretrained(saved.folder, dtype=torch.float32)
    batches = [collate(batch) for batch in pairs]
    fast_path(model, torch.device("cpu"))
    before, after = (dict.fromkeys(PARTS, 0.0) for _ in range(2))
    _step(model, batches[0])
    for batch in batches:
        for times, old in ((before, True), (after, False)):
            with _as_before(old):
                for part, seconds in _profiled(model, batch, saved.config.vocab_size).items():
                    times[part] += seconds
    peak = matmul_peak(torch.float32, 128 if args.tiny else 2048)
    floors = [floor_of(saved, batch) for batch in pairs]
    least = [sum(f.body for f in floors), sum(f.attention for f in floors), sum(f.head for f in floors), 0.0]
    say(f"\n{name}: {len(pairs)} batches of {args.pairs} pairs, CPU seconds at {peak / 1e9:.0f} GFLOP/s at best\n")
    say("| part | before | after | floor |\n|---|---|---|---|")
    for part, floor in zip(PARTS, least, strict=True):
        say(f"| {part} | {before[part]:.2f} | {after[part]:.2f} | {floor / peak:.2f} |")
    totals = [sum(times.values()) for times in (before, after)]
    say(f"| all | {totals[0]:.2f} | {totals[1]:.2f} | {sum(least) / peak:.2f} |")
    return totals[0] / totals[1]


@contextmanager
def _as_before(old: bool) -> Iterator[None]:
    """Whether scoring goes the way that every architecture can go."""
    usual = scoring.fast_path
    scoring.fast_path = (lambda *_: FastPath(False, None)) if old else usual
    try:
        yield
    finally:
        scoring.fast_path = usual


def _step(model: nn.Module, batch: PreferenceBatch) -> None:
    for parameter in model.parameters():
        parameter.grad = None
    policy = score(model, batch)
    reference = PairScores(*(SequenceScores(_fixed(side.logps), side.lengths) for side in policy[:2]))
    DPO(0.1)(policy, reference).losses.sum().backward()


def _fixed(logps: Tensor) -> Tensor:
    return logps.detach() + 0.1


def _profiled(model: nn.Module, batch: PreferenceBatch, vocabulary: int) -> dict[str, float]:
    """part -> CPU seconds of one step."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        _step(model, batch)
    seconds: dict[str, float] = defaultdict(float)
    for event in found.key_averages(group_by_input_shape=True):
        seconds[_part(event.key, event.input_shapes, vocabulary)] += event.self_cpu_time_total / 1e6
    return seconds


def _part(name: str, shapes: Any, vocabulary: int) -> str:
    if "scaled_dot_product" in name:
        return "attention"
    sizes = {size for shape in shapes or [] if isinstance(shape, list | tuple) for size in shape}
    if sizes & {vocabulary, TILE, vocabulary % TILE}:
        return "output embedding"
    return "matrices of the layers" if name in PRODUCTS else "everything else"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=HH, help="any data.path")
    parser.add_argument("--tokenizer", default=TOKENIZER, help="folder or hub name")
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=list(SHAPES), help="comma-separated")
    parser.add_argument("--pairs", type=int, default=4, help="a batch")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="models of no size, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
