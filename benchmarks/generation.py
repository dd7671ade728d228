"""How many responses a second, beside a plain loop over ``model.generate``? Prints a Markdown table.

    python benchmarks/generation.py                    # about 70 seconds of one core

*plain*: prompts in their given order, batch after batch, padded on the left, ``model.generate`` with sampling; each
batch lasts as long as its longest response. *lit-pref*: ``lit_pref.generation.generate`` with the same batch size.
Both sample at temperature 1 from one model of Llama's shape with random weights, in one process, block of prompts
after block, in turns whose order is reversed every other block. *equal*: prompts and responses of 32 tokens each.
*ragged prompts*: prompts of 16 to 512 tokens, responses of 32. *ragged*: prompts of 4 to 128 tokens, and responses that
end by chance, after 32 tokens on average, or are cut at 256. The responses of the two sides differ, as their random
numbers do; lengths have the same distribution, and tokens/s are printed too.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from lit_pref.console import say
from lit_pref.drawing import Sampling
from lit_pref.generation import generate

STOP = 2
SHAPE: dict[str, Any] = {
    "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 4096, "max_position_embeddings": 1024,
}  # fmt: skip
TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 300}


class Case(NamedTuple):
    """Lengths of prompts, and how likely each token is to be the last."""

    shortest: int
    longest: int
    ends: float
    max_new_tokens: int


CASES = {
    "equal": Case(32, 32, 0.0, 32),
    "ragged prompts": Case(16, 512, 0.0, 32),
    "ragged": Case(4, 128, 1 / 32, 256),
}


class Turn(NamedTuple):
    """One side's account of one block: seconds of wall clock and of CPU, and what was written."""

    wall: float
    cpu: float
    responses: int
    tokens: int


@torch.no_grad()
def plain(model: nn.Module, prompts: Sequence[list[int]], case: Case, size: int, seed: int) -> list[int]:
    """Lengths of responses by a loop as one would write it."""
    torch.manual_seed(seed)
    lengths = []
    for start in range(0, len(prompts), size):
        rows = prompts[start : start + size]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        output = model.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=case.max_new_tokens,
            eos_token_id=STOP, pad_token_id=0,
        )[:, width:].tolist()  # fmt: skip
        lengths += [row.index(STOP) + 1 if STOP in row else case.max_new_tokens for row in output]
    return lengths


def product(model: nn.Module, prompts: Sequence[list[int]], case: Case, size: int, seed: int) -> list[int]:
    """Lengths of responses by lit-pref."""
    sampling = Sampling(max_new_tokens=case.max_new_tokens, seed=seed, batch_size=size)
    return [len(response.ids) for response in generate(model, prompts, sampling, {STOP})]


SIDES: dict[str, Callable[..., list[int]]] = {"plain": plain, "lit-pref": product}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115, progress is not part of the table
    shape = {**SHAPE, **(TINY if args.tiny else {})}
    say(f"{args.blocks} blocks of {args.block} prompts; batches of {args.batch}; {args.threads} thread(s); float32; "
        f"torch {torch.__version__}; {shape['num_hidden_layers']} layers of {shape['hidden_size']}, "
        f"vocabulary {shape['vocab_size']}\n")  # fmt: skip
    say("| lengths | side | responses/s | tokens/s | tokens a response | ratio of responses/s, wall | ratio, CPU |")
    say("|---|---|---|---|---|---|---|")
    ratio = 0.0
    for name, case in CASES.items():
        case = case._replace(max_new_tokens=8) if args.tiny else case
        ratio = _compare(name, case, _model(shape, case), args)
    say(f"\nRagged prompts and responses: lit-pref writes {ratio:.1f}x as many responses a second as a plain loop")


def _compare(name: str, case: Case, model: nn.Module, args: argparse.Namespace) -> float:
    """Run one case, print its two lines of the table, return the median ratio."""
    turns: dict[str, list[Turn]] = {side: [] for side in SIDES}
    for warm_up in SIDES.values():
        warm_up(model, _prompts(case, args.batch, model, 0), case._replace(max_new_tokens=4), args.batch, 0)
    for block in range(args.blocks):
        prompts = _prompts(case, args.block, model, 1 + block)
        for side in list(SIDES) if block % 2 == 0 else list(SIDES)[::-1]:
            wall, cpu = time.perf_counter(), time.process_time()
            lengths = SIDES[side](model, prompts, case, args.batch, 1 + block)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            turns[side].append(Turn(wall, cpu, len(lengths), sum(lengths)))
    both = list(zip(turns["plain"], turns["lit-pref"], strict=True))  # of the same prompts
    walls, cpus = ([getattr(a, key) / getattr(b, key) for a, b in both] for key in ("wall", "cpu"))
    for side, done in turns.items():
        seconds, _, responses, tokens = (sum(values) for values in zip(*done, strict=True))
        ratios = f"{_spread(walls)} | {_spread(cpus)}" if side == "lit-pref" else " | "
        say(f"| {name} | {side} | {responses / seconds:.1f} | {tokens / seconds:.0f} | {tokens / responses:.1f} |"
            f" {ratios} |")  # fmt: skip
    return statistics.median(walls)


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}x [{min(ratios):.2f}-{max(ratios):.2f}]"


def _model(shape: dict[str, Any], case: Case) -> nn.Module:
    """Random weights, so all tokens are about equally likely; a bias makes the stop token as likely as a case says."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **shape, bos_token_id=1, eos_token_id=STOP, pad_token_id=0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    head = nn.Linear(shape["hidden_size"], shape["vocab_size"])
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        odds = case.ends / (1 - case.ends)
        head.bias[STOP] = math.log(odds * (shape["vocab_size"] - 1)) if odds else -math.inf
    model.lm_head = head
    return model


def _prompts(case: Case, count: int, model: Any, seed: int) -> list[list[int]]:
    """Random tokens; the logarithm of the length is uniform."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(count, generator=generator)
    lengths = (case.shortest * (case.longest / case.shortest) ** spread).round().long().tolist()
    vocabulary = model.config.vocab_size
    return [torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in lengths]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--block", type=int, default=64, help="prompts that a side answers before the other's turn")
    parser.add_argument("--batch", type=int, default=16, help="responses at the same time, on both sides")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--tiny", action="store_true", help="a model of no size and short responses, to see it run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
