"""How many verdicts a second, beside a plain loop over the judge's model? Prints a Markdown table.

    python benchmarks/judging.py                       # about 165 seconds of one core

*plain*: responses in their order of arrival, batch after batch, padded to the longest of the batch. A language model
is asked with the same template, answers by ``model.generate`` (greedy, left padding, at most 16 tokens), and the text
is parsed; a classifier reads the response with truncation off. *lit-pref*: ``judge_items`` without a cache, the same
model, batch size and item, with ``GenerativeJudge`` by log-probabilities of the two answers or greedily, and with
``ClassifierJudge``. Both sides judge the same responses in one process, block after block, in turns whose order is
reversed every other block. *equal*: responses of 64 words. *ragged*: of 4 to 512 words.

The language model has Llama's shape and random weights, but answers as a trained judge does: one digit, then the end.
So the plain loop stops after two calls a batch, and is not made slower than it would be with a real judge.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from lit_pref.console import say
from lit_pref.judges import ClassifierJudge, GenerativeJudge, Item, Judge, judge_items
from lit_pref.judges.parsing import parse_label
from lit_pref.judges.prompting import DEFAULT_TEMPLATE, Template
from lit_pref.models import CausalLM
from lit_pref.world.tokenizer import train_tokenizer

WORDS = [f"word{i}" for i in range(1000)]
LABELS: dict[str, Any] = {"0": "refusal", "1": "compliance"}
SHAPE: dict[str, Any] = {
    "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4,
    "max_position_embeddings": 1024, "pad_token_id": 0,
}  # fmt: skip
TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
#: Words of a response; the logarithm of their number is uniform.
CASES = {"equal": (64, 64), "ragged": (4, 512)}
#: An answer that is as likely as can be; then the end is.
SURE = 30.0

Plain = Callable[[Sequence[Item]], list[str]]


class Built(CausalLM):
    """A model that is there already, as a judge takes it."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__("benchmark")
        self.made = (model, tokenizer)

    def build_frozen(self) -> Any:
        return self.made[0]

    def tokenizer(self) -> Any:
        return self.made[1]

    def fingerprint(self) -> str:
        return "benchmark"


class Turn(NamedTuple):
    """One side's account of one block: seconds of wall clock and of CPU, and its labels."""

    wall: float
    cpu: float
    labels: list[str]


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed prints that it has found no GPU
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115, progress is not part of the table
    shape = {**SHAPE, **(TINY if args.tiny else {})}
    tokenizer = train_tokenizer([DEFAULT_TEMPLATE + " 0 1 " + " ".join(WORDS)])
    tokenizer.model_max_length = shape["max_position_embeddings"]
    say(f"{args.blocks} blocks of {args.block} responses; batches of {args.batch}; {args.threads} thread(s); float32; "
        f"torch {torch.__version__}; {shape['num_hidden_layers']} layers of {shape['hidden_size']}\n")  # fmt: skip
    say("| judge | lengths | side | responses/s | refusals | same verdict | ratio of responses/s, wall | ratio, CPU |")
    say("|---|---|---|---|---|---|---|---|")
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, judge, plain in _pairs(shape, tokenizer, args.batch, folder):
            judge.prepare(torch.device("cpu"))
            for case, words in CASES.items():
                words = (min(words[0], 8), min(words[1], 24)) if args.tiny else words
                ratios[name, case] = _compare(f"{name} | {case}", words, judge, plain, args)
    ratio = ratios["log-probabilities", "ragged"]
    say(f"\nRagged responses: by log-probabilities lit-pref judges {ratio:.1f}x as many a second as a plain loop")


def _pairs(shape: dict[str, Any], tokenizer: Any, size: int, folder: str) -> list[tuple[str, Judge, Plain]]:
    """Name, judge and plain loop of each comparison."""
    model = _language_model(shape, tokenizer)
    source = Built(model, tokenizer)
    classifier = _classifier(shape, tokenizer, folder)
    by_generating = _plain_generation(model, tokenizer, size)
    return [
        ("log-probabilities", GenerativeJudge(source, decide="log_probs", batch_size=size), by_generating),
        ("greedy", GenerativeJudge(source, decide="greedy", batch_size=size), by_generating),
        ("classifier", ClassifierJudge(folder, batch_size=size), _plain_classification(classifier, tokenizer, size)),
    ]


def _plain_generation(model: Any, tokenizer: Any, size: int) -> Plain:
    template = Template()

    @torch.no_grad()
    def judge(items: Sequence[Item]) -> list[str]:
        labels: list[str] = []
        for start in range(0, len(items), size):
            texts = [template.render(item).text for item in items[start : start + size]]
            inputs = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
            output = model.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False,
                max_new_tokens=16, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
            )[:, inputs["input_ids"].shape[1] :]  # fmt: skip
            answers = tokenizer.batch_decode(output, skip_special_tokens=True)
            labels += [parse_label(answer, LABELS)[0] for answer in answers]
        return labels

    return judge


def _plain_classification(model: Any, tokenizer: Any, size: int) -> Plain:
    names = model.config.id2label

    @torch.no_grad()
    def judge(items: Sequence[Item]) -> list[str]:
        labels: list[str] = []
        for start in range(0, len(items), size):
            texts = [item.response for item in items[start : start + size]]
            inputs = tokenizer(texts, padding=True, return_tensors="pt")
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
            labels += [names[i] for i in logits.argmax(-1).tolist()]
        return labels

    return judge


def _compare(name: str, words: tuple[int, int], judge: Judge, plain: Plain, args: argparse.Namespace) -> float:
    """Run one case, print its two lines of the table, return the median ratio."""

    def product(items: Sequence[Item]) -> list[str]:
        return [verdict.label for verdict in judge_items(judge, items)]

    sides: dict[str, Plain] = {"plain": plain, "lit-pref": product}
    turns: dict[str, list[Turn]] = {side: [] for side in sides}
    for warm_up in sides.values():
        warm_up(_items(words, args.batch, 0))
    for block in range(args.blocks):
        items = _items(words, args.block, 1 + block)
        for side in list(sides) if block % 2 == 0 else list(sides)[::-1]:
            wall, cpu = time.perf_counter(), time.process_time()
            labels = sides[side](items)
            turns[side].append(Turn(time.perf_counter() - wall, time.process_time() - cpu, labels))
    both = list(zip(turns["plain"], turns["lit-pref"], strict=True))  # of the same responses
    walls, cpus = ([getattr(a, key) / getattr(b, key) for a, b in both] for key in ("wall", "cpu"))
    same = statistics.mean(x == y for a, b in both for x, y in zip(a.labels, b.labels, strict=True))
    for side, done in turns.items():
        found = [label for turn in done for label in turn.labels]
        speed = len(found) / sum(turn.wall for turn in done)
        result = f"{same:.1%} | {_spread(walls)} | {_spread(cpus)}" if side == "lit-pref" else " |  | "
        say(f"| {name} | {side} | {speed:.1f} | {found.count('refusal') / len(found):.1%} | {result} |")
    return statistics.median(walls)


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}x [{min(ratios):.2f}-{max(ratios):.2f}]"


def _language_model(shape: dict[str, Any], tokenizer: Any) -> nn.Module:
    """Random weights; a bias on the two answers, and a direction in which both of them ask for the end."""
    torch.manual_seed(0)
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model("llama", **shape, num_key_value_heads=4, vocab_size=len(tokenizer), **ends)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
    digits = [tokenizer.convert_tokens_to_ids(digit) for digit in LABELS]
    head, width = nn.Linear(shape["hidden_size"], len(tokenizer)), shape["hidden_size"]
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)  # or all responses would look alike
        end = nn.functional.normalize(torch.randn(width), dim=0)
        model.get_input_embeddings().weight[digits] = 1000 * end  # outweighs what layers add
        head.weight.copy_(torch.randn_like(head.weight) * 0.1)
        head.weight[tokenizer.eos_token_id] = 4 * SURE / width**0.5 * end
        head.bias.zero_()
        head.bias[digits] = SURE
    model.lm_head = head.requires_grad_(False)
    return model


def _classifier(shape: dict[str, Any], tokenizer: Any, folder: str) -> nn.Module:
    """An encoder with random weights, whose folder a judge can load."""
    torch.manual_seed(0)
    names = {0: "refusal", 1: "compliance"}
    labels = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    config = AutoConfig.for_model("bert", **shape, vocab_size=len(tokenizer), **labels)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.bert.encoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
        texts = [item.response for item in _items(CASES["ragged"], 32, 0)]
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits  # (B, 2)
        model.classifier.bias.sub_(logits.mean(0))  # or one label would be that of all
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.requires_grad_(False)


def _items(words: tuple[int, int], count: int, seed: int) -> list[Item]:
    """Random words; requests have sixteen."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(count, generator=generator)
    lengths = (words[0] * (words[1] / words[0]) ** spread).round().long().tolist()

    def text(length: int) -> str:
        return " ".join(WORDS[i] for i in torch.randint(len(WORDS), (length,), generator=generator).tolist())

    return [Item(text(16), text(length)) for length in lengths]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--block", type=int, default=128, help="responses that a side judges before the other's turn")
    parser.add_argument("--batch", type=int, default=16, help="responses at the same time, on both sides")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--tiny", action="store_true", help="a model of no size and short responses, to see it run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
