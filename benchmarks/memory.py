"""How much memory does a step of DPO take, beside TRL's DPOTrainer? Prints a Markdown table.

    python benchmarks/memory.py                             # three vocabularies, three lengths
    python benchmarks/memory.py --lengths 128,256,512,1024,2048 --pairs 4

Peak resident memory of a training step in float32, beyond weights, gradients and the optimizer's moments, which both
sides hold alike. Each number is that of a fresh process, which counts from before its first step to the end of its
second, the first one that holds all three. Rows are equally long, so that nobody pads; one half of each is the prompt.
The body is that of the shape "smol" of ``train_step.py``. Log-probabilities of the reference are computed before. TRL
runs without gradient checkpointing, and with it under ``--checkpointing``, where it takes less memory and more time.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from training_pairs import TOKENIZER, equal_pairs, write_pairs
from training_shapes import saved_model, shape_of
from training_sides import LIT_PREF, Side, Task, beyond_held, in_turns, workers

from lit_pref.console import say


def main() -> None:
    args = _arguments()
    say(f"{args.pairs} pairs a step; {args.threads} thread(s) a side; float32; torch {torch.__version__}\n")
    say("| vocabulary | tokens a row | lit-pref | TRL | TRL / lit-pref |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for vocabulary in args.vocabularies:
            for length in args.lengths:
                ours, theirs = _measured(vocabulary, length, args, Path(folder))
                ratio = theirs / ours
                say(f"| {vocabulary} | {length} | {ours:.0f} MB | {theirs:.0f} MB | {ratio:.1f}x |")
    say(
        f"\nvocabulary {vocabulary}, {length} tokens a row: beyond weights, gradients and optimizer, a step of TRL "
        f"takes {ratio:.1f}x the memory of lit-pref's"
    )


def _measured(vocabulary: int, length: int, args: argparse.Namespace, folder: Path) -> list[float]:
    """Memory of lit-pref and of TRL, MB, one after the other."""
    model = saved_model(shape_of("smol", args.tiny, vocab_size=vocabulary), folder / str(vocabulary))
    found = []
    for side in (Side(LIT_PREF), Side("TRL", checkpointing=args.checkpointing)):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            stored = Path(scratch) / "pairs"
            write_pairs(stored, [equal_pairs(args.pairs, length, 0.5)] * 2, vocabulary)
            task = Task(model.folder, stored, Path(scratch), args.tokenizer, args.pairs, args.threads, 128)
            with workers([side], task) as started:
                step = in_turns(started)[side][-1]
            found.append(beyond_held(step, model.parameters))
    return found


def _whole_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", default=TOKENIZER, help="folder or hub name; TRL asks for one")
    parser.add_argument("--lengths", type=_whole_numbers, default=[128, 512, 2048], help="tokens of each row")
    parser.add_argument("--vocabularies", type=_whole_numbers, default=[8192, 49_152, 151_936])
    parser.add_argument("--pairs", type=int, default=2, help="a step")
    parser.add_argument("--checkpointing", action="store_true", help="let TRL compute activations again, its default")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on each side")
    parser.add_argument("--tiny", action="store_true", help="models of no size, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
