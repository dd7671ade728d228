"""Does pruning by CHES beat its controls on the tiny world? Prints Markdown tables, with intervals over seeds.

    python benchmarks/pruning_controls.py                      # five request worlds, about ten minutes on two cores
    python benchmarks/pruning_controls.py --seeds 2 --steps 13

Every arm trains the same model by DPO for the same number of steps on a quarter of the pairs (CHESPruning before the
first epoch, match_steps), and is then asked all held-out requests. Two data sets: the pairs as the model sampled them,
and the same with the pairs of one refusal and one compliance cut to a few per cent, the case of the paper's data.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer

os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else it says so in the middle of a table
from transformers.utils.logging import disable_progress_bar

from lit_pref import world
from lit_pref.cli import run as run_cli
from lit_pref.runs import VARIABLE
from lit_pref.world.onpolicy import MIXED
from lit_pref.world.sampling import sample

FRACTION = 0.25
BATCH = 32
DRAWS = 3  # sampled answers for each prompt
RULE = {"class_path": "lit_pref.pruning.LowestFraction", "init_args": {"fraction": FRACTION}}


class Arm(NamedTuple):
    """A way to choose the quarter; ``control`` wraps the rule, a measure of None takes all pairs."""

    measure: str | None
    control: str | None = None
    label: str | None = None
    anew: bool = False  # choose among all pairs before every epoch, not once before the first
    steps: float = 1.0  # share of the steps; a quarter is what one pass over a quarter of the pairs amounts to


BEFORE = "nothing (before training)"
ARMS = {
    "all pairs": Arm(None),
    "lowest LN-CHES": Arm("ln_ches"),
    "random": Arm("ln_ches", "RandomSubset"),
    "highest LN-CHES": Arm("ln_ches", "HighestScores"),
    "length-matched random": Arm("ln_ches", "LengthMatched"),
    "class-matched random": Arm("ln_ches", "ClassMatched", "pair_class"),
    "lowest CHES": Arm("ches"),
    "lowest alpha-CHES": Arm("alpha_ches"),
    "lowest edit similarity": Arm("edit_similarity"),
    "lowest last-hidden": Arm("last_hidden"),
    "lowest response cosine": Arm("response_cosine"),
    "lowest LN-CHES, anew each epoch": Arm("ln_ches", anew=True),
    "lowest LN-CHES, a quarter of the steps": Arm("ln_ches", steps=FRACTION),
    "random, a quarter of the steps": Arm("ln_ches", "RandomSubset", steps=FRACTION),
}
FILTER = "lowest LN-CHES"


class Outcome(NamedTuple):
    """One arm on one seed; shares from 0 to 1, changes in nats on held-out pairs."""

    refusal: float
    safe_refusal: float
    garbled: float
    chosen: float
    rejected: float
    mixed: float  # share of the pairs trained on that hold one refusal and one compliance


def arm_config(arm: Arm, seed: int, data: Path, folder: Path, steps: int, lr: float) -> dict[str, Any]:
    """What ``lit-pref fit`` is told."""
    callbacks: list[dict[str, Any]] = [
        {"class_path": f"callbacks.{name}"} for name in ("ValidateEnds", "Displacement", "LastCheckpoint")
    ]
    callbacks[1]["init_args"] = {"train": False}
    if arm.measure is not None:
        rule: dict[str, Any] = RULE
        if arm.control is not None:
            options = {"rule": RULE, **({} if arm.label is None else {"label": arm.label})}
            rule = {"class_path": f"lit_pref.pruning.{arm.control}", "init_args": options}
        pruning = {"measure": arm.measure, "rule": rule, "every_n_epochs": 1 if arm.anew else 1000,
                   "cumulative": not arm.anew, "match_steps": True}  # fmt: skip
        callbacks.append({"class_path": "callbacks.CHESPruning", "init_args": pruning})
    optimizer = {"class_path": "torch.optim.RMSprop", "init_args": {"lr": lr}}
    return {
        "seed_everything": seed,
        "run": {"root": str(folder), "name": "arm"},
        "model": {
            "policy": {"path": f"world:request@{seed}"},
            "objective": {"class_path": "objectives.DPO", "init_args": {"beta": 0.1}},
            "optimizer": optimizer,
        },
        "data": {
            "path": str(data), "val_path": f"world:request@{seed}/soft", "batch_size": BATCH, "val_batch_size": 128,
            "columns": {"labels": ["pair_class"]},
        },
        "trainer": {
            "accelerator": "cpu", "max_steps": round(steps * arm.steps), "max_epochs": 1000, "log_every_n_steps": 0,
            "check_val_every_n_epoch": 1000, "enable_progress_bar": False, "callbacks": callbacks,
        },
    }  # fmt: skip


def outcome(arm: Arm, seed: int, data: Path, steps: int, lr: float) -> Outcome:
    """Train one arm and ask it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "arm.yaml").write_text(yaml.safe_dump(arm_config(arm, seed, data, folder, steps, lr)))
        os.environ.pop(VARIABLE, None)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run_cli(["fit", "--config", str(folder / "arm.yaml")])
        run = folder / "arm" / "version_0"
        state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        with (run / "metrics.csv").open() as file:
            last = [line for line in csv.DictReader(file) if line.get("displacement/chosen/val")][-1]
    model = AutoModelForCausalLM.from_pretrained(world.resolve(f"world:request@{seed}"))
    prefix = "policy."
    model.load_state_dict({k[len(prefix) :]: v for k, v in state["state_dict"].items() if k.startswith(prefix)})
    test, safe = (rates(model, seed, split) for split in ("test", "safe"))
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    kept = next(iter(v for k, v in state.items() if k == "PreferenceData"), {}).get("rows") or range(len(rows))
    mixed = float(np.mean([rows[row]["pair_class"] == MIXED for row in kept]))
    changes = (float(last[f"displacement/{side}/val"]) for side in ("chosen", "rejected"))
    return Outcome(test[0], safe[0], test[1], *changes, mixed)


def untrained(seed: int) -> Outcome:
    """What the model does before any training."""
    model = AutoModelForCausalLM.from_pretrained(world.resolve(f"world:request@{seed}"))
    test, safe = (rates(model, seed, split) for split in ("test", "safe"))
    return Outcome(test[0], safe[0], test[1], 0.0, 0.0, float("nan"))


def rates(model: torch.nn.Module, seed: int, split: str) -> tuple[float, float]:
    """Shares of refusals and of garbled answers among sampled answers."""
    tokenizer = AutoTokenizer.from_pretrained(world.resolve(f"world:request@{seed}"))
    torch.manual_seed(0)
    answers = sample(model, tokenizer, world.prompts("request", split) * DRAWS)  # type: ignore[arg-type]
    styles = Counter(world.style_of(answer) for answer in answers)
    refusals = len(answers) - styles["comply"] - styles[None]
    return refusals / len(answers), styles[None] / len(answers)


def cut(rows: list[str], share: float) -> list[str]:
    """The rows with only so many pairs of one refusal and one compliance that they are this share of all."""
    mixed = [row for row in rows if json.loads(row)["pair_class"] == MIXED]
    allowed = round(share * (len(rows) - len(mixed)) / (1 - share))
    stay = set(mixed[:allowed])
    return [row for row in rows if row not in mixed or row in stay]


def interval(values: list[float]) -> str:
    """Mean and 95% t interval over seeds."""
    if np.isnan(values).any():
        return ""
    mean, error = float(np.mean(values)), float(stats.sem(values)) if len(values) > 1 else float("nan")
    half = error * stats.t.ppf(0.975, len(values) - 1) if len(values) > 1 else float("nan")
    return f"{mean:.2f} ± {half:.2f}" if len(values) > 1 else f"{mean:.2f}"


def table(found: dict[str, list[Outcome]]) -> str:
    """One line an arm, and how the filter differs from it on the same seeds."""
    lines = ["| trained on | refusal, harmful requests | filter minus this | refusal, harmless | garbled "
             "| chosen (nats) | rejected (nats) | mixed pairs |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, outcomes in found.items():
        differences = [f.refusal - o.refusal for f, o in zip(found[FILTER], outcomes, strict=True)]
        columns = [[getattr(o, field) for o in outcomes] for field in Outcome._fields]
        refusal, safe, garbled, chosen, rejected, mixed = (interval(column) for column in columns)
        against = "" if name == FILTER else interval(differences)
        lines.append(f"| {name} | {refusal} | {against} | {safe} | {garbled} | {chosen} | {rejected} | {mixed} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many worlds: seeds 0, 1, ...")
    parser.add_argument("--steps", type=int, default=26, help="optimizer steps of every arm")
    parser.add_argument("--lr", type=float, default=3e-5, help="learning rate of RMSprop")
    parser.add_argument("--mixed", type=float, default=0.03, help="share of mixed pairs in the second data set")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()  # of loading weights
    for title, share in (("as sampled", None), (f"mixed pairs cut to {arguments.mixed:.0%}", arguments.mixed)):
        found: dict[str, list[Outcome]] = {name: [] for name in (BEFORE, *ARMS)}
        counts = []
        for seed in range(arguments.seeds):
            rows = world.resolve(f"world:request@{seed}/soft", "train").read_text().splitlines()
            rows = rows if share is None else cut(rows, share)
            counts.append(len(rows))
            found[BEFORE].append(untrained(seed))
            with tempfile.TemporaryDirectory() as name:
                data = Path(name) / "pairs.jsonl"
                data.write_text("\n".join(rows) + "\n")
                for arm in ARMS:
                    found[arm].append(outcome(ARMS[arm], seed, data, arguments.steps, arguments.lr))
        print(f"\n{title}: {min(counts)} to {max(counts)} pairs, {arguments.steps} steps of {BATCH} pairs, "
              f"{arguments.seeds} seeds, mean ± half of the 95% t interval\n\n{table(found)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
