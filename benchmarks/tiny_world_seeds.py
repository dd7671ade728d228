"""Does the tiny world show likelihood displacement on every seed? Prints Markdown tables.

    python benchmarks/tiny_world_seeds.py                      # five agreement worlds, two request worlds
    python benchmarks/tiny_world_seeds.py --seeds 3 --steps 60

Plain PyTorch on purpose, with its own scoring: an answer that does not pass through the library it speaks about.
Knows nothing about Lightning, configs or callbacks.
"""

import argparse
import copy
import json
import os
import random
import statistics
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lit_pref import world
from lit_pref.world.names import PAIRS
from lit_pref.world.sampling import sample

os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else it says so in the middle of a table

BETA = 0.1
AGREEMENT_BATCH, REQUEST_BATCH = 16, 32
REQUEST_STEPS = 26  # about two passes; later more answers are garbled
REQUEST_SEEDS = 2
DRAWS = 3  # sampled answers for each test prompt
Rows = list[dict[str, str]]


class Scored(NamedTuple):
    logps: Tensor  # (B,) log p(response + EOS | prompt)
    first: Tensor  # (B, V) distribution of the first response token


def load(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    folder = world.resolve(name)
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def read(name: str, split: str) -> Rows:
    return [json.loads(line) for line in world.resolve(name, split).read_text(encoding="utf-8").splitlines()]


def score(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Rows, side: str) -> Scored:
    prompts = [tokenizer(row["prompt"], add_special_tokens=False)["input_ids"] for row in rows]
    answers = [tokenizer(row[side], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for row in rows]
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    padded = [(p + a + [tokenizer.pad_token_id] * width)[:width] for p, a in zip(prompts, answers, strict=True)]
    ids = torch.tensor(padded)  # (B, T), padded on the right, where causality hides it
    start = torch.tensor([len(p) for p in prompts])[:, None]
    end = start + torch.tensor([len(a) for a in answers])[:, None]
    logps = model(input_ids=ids).logits.float().log_softmax(-1)[:, :-1]  # (B, T-1, V)
    position = torch.arange(1, width)
    inside = (position >= start) & (position < end)  # (B, T-1)
    tokens = logps.gather(-1, ids[:, 1:, None])[..., 0]
    return Scored((tokens * inside).sum(1), logps[torch.arange(len(rows)), start[:, 0] - 1].exp())


def margins(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Rows) -> Tensor:
    return score(model, tokenizer, rows, "chosen").logps - score(model, tokenizer, rows, "rejected").logps  # (B,)


def dpo(
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
    lr: float,
    steps: int,
    size: int,
    seed: int,
) -> PreTrainedModel:
    """A trained copy of `reference`: -log σ(β·(margin - reference margin)), RMSprop, every row once an epoch."""
    policy, rng, queue = copy.deepcopy(reference), random.Random(seed), list[int]()
    optimizer = torch.optim.RMSprop(policy.parameters(), lr=lr)
    with torch.no_grad():
        zero = margins(reference, tokenizer, rows)
    for _ in range(steps):
        if len(queue) < size:
            queue += rng.sample(range(len(rows)), len(rows))
        batch, queue = queue[:size], queue[size:]
        log_ratio = margins(policy, tokenizer, [rows[i] for i in batch]) - zero[batch]
        loss = -logsigmoid(BETA * log_ratio).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy


class Outcome(NamedTuple):
    chosen: tuple[float, float]  # mean p(chosen) at the start and the end
    agree: tuple[float, float]
    disagree: tuple[float, float]
    fell: float  # share of the validation prompts whose p(chosen) fell
    rising: list[str]


def agreement_outcome(pairs: str, seed: int, lr: float, steps: int) -> Outcome:
    name = f"world:agreement@{seed}/{pairs}"
    reference, tokenizer = load(f"world:agreement@{seed}")
    policy = dpo(reference, tokenizer, read(name, "train"), lr, steps, AGREEMENT_BATCH, seed)
    with torch.no_grad():
        before, after = (score(m, tokenizer, read(name, "validation"), "chosen") for m in (reference, policy))
    p, q = before.first.mean(0), after.first.mean(0)  # (V,)
    mass = {g: tokenizer.convert_tokens_to_ids(words) for g, words in world.groups("agreement").items()}
    return Outcome(
        chosen=(before.logps.exp().mean().item(), after.logps.exp().mean().item()),
        agree=(p[mass["agree"]].sum().item(), q[mass["agree"]].sum().item()),
        disagree=(p[mass["disagree"]].sum().item(), q[mass["disagree"]].sum().item()),
        fell=(after.logps < before.logps).float().mean().item(),
        rising=[str(tokenizer.decode([i])) for i in (q - p).topk(3).indices.tolist()],
    )


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f}±{statistics.stdev(values) if len(values) > 1 else 0:.3f}"


def change(pairs: list[tuple[float, float]]) -> str:
    starts, ends = (list(column) for column in zip(*pairs, strict=True))
    return f"{spread(starts)} -> {spread(ends)}"


def agreement_row(pairs: str, outcomes: list[Outcome]) -> str:
    fell = sum(o.chosen[1] < o.chosen[0] for o in outcomes)
    share = statistics.mean(o.fell for o in outcomes)
    rising = Counter(repr(token.strip(" ")) for o in outcomes for token in o.rising).most_common(5)
    cells = [
        pairs,
        change([o.chosen for o in outcomes]),
        f"{fell}/{len(outcomes)} seeds, {share:.0%} of prompts",
        change([o.agree for o in outcomes]),
        change([o.disagree for o in outcomes]),
        ", ".join(f"{token} ({count})" for token, count in rising),
    ]
    return f"| {' | '.join(cells)} |"


def rates(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
    """Refusal / compliance / garbled, in per cent of sampled answers."""
    torch.manual_seed(0)
    answers = sample(model, tokenizer, world.prompts("request", split) * DRAWS)
    styles = Counter(world.style_of(answer) for answer in answers)
    counts = (len(answers) - styles["comply"] - styles[None], styles["comply"], styles[None])
    return " / ".join(f"{100 * count / len(answers):.0f}" for count in counts)


def request_rows(seed: int, lr: float) -> list[str]:
    reference, tokenizer = load(f"world:request@{seed}")
    rows = [f"| {seed} | before | | {rates(reference, tokenizer, 'test')} | {rates(reference, tokenizer, 'safe')} |"]
    for pairs in PAIRS["request"]:
        everything = read(f"world:request@{seed}/{pairs}", "train")
        refusals = [row for row in everything if row["pair_class"] == "two refusals"]
        for title, subset in (("all pairs", everything), ("two refusals only", refusals)):
            policy = dpo(reference, tokenizer, subset, lr, REQUEST_STEPS, REQUEST_BATCH, seed)
            cells = [rates(policy, tokenizer, split) for split in ("test", "safe")]
            rows.append(f"| {seed} | {pairs}, {title} | {len(subset)} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many worlds: seeds 0, 1, ...")
    parser.add_argument("--lr", type=float, default=2e-5, help="learning rate of RMSprop")
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps of each agreement run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{args.seeds} seeds, mean ± sample sd, 48 validation prompts each; {args.steps} steps, lr {args.lr:g}.\n")
    print("| pair | p(chosen) | fell | agree mass | disagree mass | rising most |\n|---|---|---|---|---|---|")
    for pairs in PAIRS["agreement"]:
        outcomes = [agreement_outcome(pairs, seed, args.lr, args.steps) for seed in range(args.seeds)]
        print(agreement_row(pairs, outcomes), flush=True)
    print(f"\nRefusal / compliance / garbled in % of {DRAWS} answers a prompt; {REQUEST_STEPS} steps.\n")
    print("| seed | trained on | pairs | test prompts | safe prompts |\n|---|---|---|---|---|")
    for seed in range(min(args.seeds, REQUEST_SEEDS)):
        print("\n".join(request_rows(seed, args.lr)), flush=True)


if __name__ == "__main__":
    main()
