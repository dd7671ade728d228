"""How fast are similarity measures computed, beside the method of the paper's own script? Prints a Markdown table.

    python benchmarks/score.py                        # HH harmless pairs, three shapes, some five minutes
    python benchmarks/score.py --data Anthropic/hh-rlhf --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct

Both sides compute the same four numbers of the same pairs: CHES, LN-CHES, last hidden states, edit distance.
*script*: two forwards a pair at batch size 1, without padding, all logits and all hidden states, as in
compute_preference_similarity_per_example.py of Razin et al. 2025. It is written anew here; its edit distance is
rapidfuzz's, as ours is, since the script's own loop would cost it minutes more. *lit-pref*: what a user gets.
Each side is a process of its own and both live all the time; they work in turns, block after block of pairs, the
order reversed every other block, so that whatever else the machine does meets both; CPU time is the fairer clock where
it does much. Ratios are medians over blocks, with the smallest and the largest. Weights are random, float32.
"""

import argparse
import multiprocessing as mp
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rapidfuzz.distance import Levenshtein
from resident import resident
from torch import Tensor, nn
from training_shapes import shape_of
from transformers import AutoConfig, AutoModelForCausalLM

from lit_pref.batch import Pair
from lit_pref.console import say
from lit_pref.data.datamodule import PreferenceData
from lit_pref.encoding import ending_tokens
from lit_pref.models import load_tokenizer
from lit_pref.similarity import USUAL, Measuring
from lit_pref.similarity.windows import measure_all

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TOKENS_PER_BATCH = 1024  # as in configs and callbacks
#: Shapes of the training benchmarks; the last one's ratio is the last line.
NAMES = {"small": "8k vocabulary", "smol": "49k vocabulary", "qwen": "151k vocabulary"}
Score = Callable[[nn.Module, list[Pair], frozenset[int]], dict[str, Tensor]]


class Block(NamedTuple):
    """One side's account of one block: seconds of wall clock and of CPU, and scores."""

    wall: float
    cpu: float
    scores: dict[str, list[float]]


@torch.no_grad()
def script(model: nn.Module, pairs: list[Pair], endings: frozenset[int]) -> dict[str, Tensor]:
    """Pair after pair, response after response."""
    columns: dict[str, list[Any]] = {name: [] for name in USUAL}
    for pair in pairs:
        sums, lasts, bodies, lengths = [], [], [], []
        for response in (list(pair.chosen), list(pair.rejected)):
            body = response[:-1] if response[-1] in endings else response
            ids = torch.tensor([[*pair.prompt, *body]])
            output = model(input_ids=ids, output_hidden_states=True)
            states = output.hidden_states[-1][0, len(pair.prompt) - 1 :]
            sums.append(states[: len(response)].sum(0))
            lasts.append(states[-1])
            bodies.append(body)
            lengths.append(len(response))
        (a, b), (n, m) = sums, lengths
        columns["ches"].append(a @ b - a @ a)
        columns["ln_ches"].append(a @ b / (n * m) - a @ a / n**2)
        columns["last_hidden"].append(lasts[0] @ lasts[1])
        longest = max(map(len, bodies))
        distance = Levenshtein.distance(*bodies) / longest if longest else 0.0
        columns["edit_similarity"].append(torch.tensor(-distance))
    return {name: torch.stack(values).double() for name, values in columns.items()}


def product(model: nn.Module, pairs: list[Pair], endings: frozenset[int]) -> dict[str, Tensor]:
    """What ``lit-pref`` does, with its own settings."""
    return measure_all(model, pairs, range(len(pairs)), Measuring(USUAL, endings, TOKENS_PER_BATCH))


SIDES: dict[str, Score] = {"script": script, "lit-pref": product}


def main() -> None:
    args = _arguments()
    pairs, endings = _pairs(args)
    say(f"{len(pairs)} pairs in blocks of {args.block}; {args.threads} thread(s) a side; float32; torch "
        f"{torch.__version__}; tokens per pair: {_tokens(pairs):.0f} on average\n")  # fmt: skip
    say("| model | side | pairs/s, wall | pairs/s, CPU | ratio, wall | ratio, CPU | peak memory | CHES differs by |")
    say("|---|---|---|---|---|---|---|---|")
    ratio = 0.0
    for shape, name in NAMES.items():
        config = shape_of(shape, args.tiny, **({"vocab_size": _highest(pairs) + 1} if args.tiny else {}))
        vocabulary = config["vocab_size"]
        own = [Pair(p.row, *([t % vocabulary for t in ids] for ids in (p.prompt, p.chosen, p.rejected))) for p in pairs]
        ratio = _compare(f"{shape}, {name}", config, own, endings, args)
    say(f"\n151k vocabulary: lit-pref scores {ratio:.1f}x as many pairs per CPU second as the script's method")


def _compare(
    name: str, config: dict[str, Any], pairs: list[Pair], endings: frozenset[int], args: argparse.Namespace
) -> float:
    """Run one shape, print its two lines of the table, return the median ratio of CPU time."""
    with _workers(config, endings, args.threads) as workers:
        blocks: dict[str, list[Block]] = {side: [] for side in SIDES}
        for number, start in enumerate(range(0, len(pairs), args.block)):
            for side in list(SIDES) if number % 2 == 0 else list(SIDES)[::-1]:
                workers[side].send(pairs[start : start + args.block])
                blocks[side].append(workers[side].recv())
        memory = {side: _asked(worker, None) for side, worker in workers.items()}
    wall, cpu = ([getattr(a, key) / getattr(b, key) for a, b in zip(*blocks.values(), strict=True)]
                 for key in ("wall", "cpu"))  # fmt: skip
    for side, done in blocks.items():
        speeds = " | ".join(f"{len(pairs) / sum(getattr(b, key) for b in done):.1f}" for key in ("wall", "cpu"))
        ours = side == "lit-pref"
        ratios = f"{_spread(wall)} | {_spread(cpu)}" if ours else " | "
        say(f"| {name} | {side} | {speeds} | {ratios} | {memory[side]:.0f} MB |"
            f" {_largest_difference(*blocks.values()) if ours else ''} |")  # fmt: skip
    return statistics.median(cpu)


@contextmanager
def _workers(config: dict[str, Any], endings: frozenset[int], threads: int) -> Iterator[dict[str, Connection]]:
    """A process for each side, both with the same weights."""
    context = mp.get_context("spawn")
    connections, processes = {}, []
    for side in SIDES:
        connections[side], other = context.Pipe()
        processes.append(context.Process(target=_work, args=(other, side, config, endings, threads), daemon=True))
        processes[-1].start()
        other.close()
    try:
        for connection in connections.values():
            connection.recv()
        yield connections
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(connection: Connection, side: str, config: dict[str, Any], endings: frozenset[int], threads: int) -> None:
    """One side: blocks of pairs in, times and scores out; None asks for the memory beyond the loaded model."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115, progress bars are not part of the table
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32).eval()
    SIDES[side](model, [Pair(0, [1, 2], [3, 4], [5])], endings)
    # The peak counts anew: building a model takes more than holding it.
    before = resident("VmRSS", forget_peak=True)
    connection.send("ready")
    while True:
        block = connection.recv()
        if block is None:
            connection.send(resident("VmHWM") - before)
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        scores = SIDES[side](model, block, endings)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        connection.send(Block(wall, cpu, {name: values.tolist() for name, values in scores.items()}))


def _asked(connection: Connection, question: Any) -> Any:
    connection.send(question)
    return connection.recv()


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.1f}x [{min(ratios):.1f}-{max(ratios):.1f}]"


def _largest_difference(theirs: list[Block], ours: list[Block]) -> str:
    pairs = [pair for a, b in zip(theirs, ours, strict=True)
             for pair in zip(a.scores["ches"], b.scores["ches"], strict=True)]  # fmt: skip
    return f"{max(abs(a - b) / abs(b) if b else abs(a) for a, b in pairs):.1e}"


def _pairs(args: argparse.Namespace) -> tuple[list[Pair], frozenset[int]]:
    """Pairs spread evenly over the data, tokenised as for training."""
    data = PreferenceData(args.data, tokenizer=args.tokenizer, val_size=0, max_length=512, on_bad_row="drop")
    data.setup("predict")
    assert data.train is not None
    count = min(args.pairs, len(data.train))
    chosen = [data.train[i * len(data.train) // count] for i in range(count)]
    return chosen, ending_tokens(load_tokenizer(args.tokenizer))


def _tokens(pairs: list[Pair]) -> float:
    return statistics.fmean(2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)


def _highest(pairs: list[Pair]) -> int:
    return max(max(*pair.prompt, *pair.chosen, *pair.rejected) for pair in pairs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(SHARED / "hh-harmless-base-test.jsonl.gz"), help="any data.path")
    parser.add_argument("--tokenizer", default=str(SHARED / "smollm2-135m-instruct"), help="folder or hub name")
    parser.add_argument("--pairs", type=int, default=192)
    parser.add_argument("--block", type=int, default=64, help="pairs that a side scores before the other's turn")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on each side")
    parser.add_argument("--tiny", action="store_true", help="models of no size, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
