"""Folders as runs leave them, made in milliseconds: what tests of reports read, and their benchmark."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

#: What an arm does to the log-probabilities of chosen and rejected responses in the end, nats.
EFFECTS = {"DPO": (-2.0, -6.0), "IPO": (-1.0, -3.0), "SimPO": (-3.0, -8.0), "DPOP": (0.5, -3.0)}


def write_run(
    folder: Path,
    objective: str = "DPO",
    seed: int = 0,
    *,
    pairs: int = 40,
    steps: int = 20,
    every: int = 5,
    effect: tuple[float, float] | None = None,
    means: tuple[float, float] | None = None,  # of the last validation, instead of what pairs give
    arguments: Mapping[str, Any] = {"beta": 0.1},
    manifest: Mapping[str, Any] = {},
    config: Mapping[str, Any] = {},
    judges: Mapping[str, tuple[float, float, int]] = {},  # judge -> rate, over-rate, abstentions of 50
    asked: str = "",  # the name of the prompts, and behind a blank of the judges' settings
    words: Mapping[str, str] = {},
    without: tuple[str, ...] = (),
) -> Path:
    """One run of ``objective``: every file of the contract but those in ``without``."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng([seed, *objective.encode()])
    moments = list(range(0, steps + 1, every))
    chosen, rejected = effect or EFFECTS.get(objective, (-1.0, -2.0))
    similarity = np.random.default_rng(seed).normal(size=pairs)  # of the initial policy, alike under every objective
    end = np.stack([
        chosen + 0.5 * generator.normal() - 0.8 * similarity + generator.normal(size=pairs),
        rejected + 0.5 * generator.normal() + generator.normal(size=pairs),
    ])  # fmt: skip
    paths = {step: end * step / steps for step in moments}
    spec = {"class_path": f"objectives.{objective}", "init_args": dict(arguments)}
    model = {"objective": spec, "policy": {"path": "tiny"}}
    settings = {"seed_everything": seed, "model": model, "data": {"path": "d"}}
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, **config}))
    if "run.json" not in without:
        record = _manifest(spec, seed, pairs, steps) | dict(manifest)
        (folder / "run.json").write_text(json.dumps(record))
    if "metrics.csv" not in without:
        moved = paths if means is None else paths | {steps: np.tile(np.array(means)[:, None], pairs)}
        _metrics(folder, moved, steps, judges, asked.partition(" "))
    if "trajectories.parquet" not in without:
        write_trajectories(folder, paths, similarity)
    if "mass.json" not in without:
        (folder / "mass.json").write_text(json.dumps(_mass(words.get("token", " Sure"), steps)))
    if "moved_rows.jsonl" not in without:
        texts = {key: words.get(key, f"some {key}") for key in ("prompt", "chosen", "rejected")}
        moved = [{"row": i, "id": None, **texts, "chosen_displacement": float(end[0, i]),
                  "rejected_displacement": float(end[1, i])} for i in range(3)]  # fmt: skip
        (folder / "moved_rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in moved))
    return folder


def write_trajectories(folder: Path, paths: Mapping[int, np.ndarray], similarity: np.ndarray) -> None:
    """trajectories.parquet of (2, pairs) changes at every step."""
    pairs, whole = len(similarity), np.ones(len(similarity), np.int64)
    tables = [
        pa.table({
            "step": step * whole, "row": np.arange(pairs), "id": pa.nulls(pairs, pa.string()),
            "chosen_logps": moved[0] - 10, "rejected_logps": moved[1] - 12,
            "chosen_displacement": moved[0], "rejected_displacement": moved[1],
            "chosen_tokens": 4 * whole, "rejected_tokens": 4 * whole,
            "ches": 10 * similarity, "ln_ches": similarity,
        })
        for step, moved in paths.items()
    ]  # fmt: skip
    pq.write_table(pa.concat_tables(tables), folder / "trajectories.parquet")


def scalars(moved: np.ndarray) -> dict[str, float]:
    """What callbacks.Displacement logs of (2, pairs) changes."""
    chosen, rejected = moved
    worst = np.sort(chosen)[: max(1, len(chosen) // 10)]
    values = {
        "chosen": chosen, "rejected": rejected, "margin": chosen - rejected, "chosen_per_token": chosen / 4,
        "rejected_per_token": rejected / 4, "share_displaced": chosen < 0, "worst_decile": worst,
        "accuracies": chosen > rejected,
    }  # fmt: skip
    return {f"displacement/{name}/val": float(np.mean(column)) for name, column in values.items()}


def _manifest(objective: Mapping[str, Any], seed: int, pairs: int, steps: int) -> dict[str, Any]:
    return {
        "format": 1, "lit_pref": "0.1.0", "command": "fit", "objective": objective, "seed": seed,
        "policy": f"policy{seed}", "reference": "FrozenModel", "data": {"train": "t", "val": "v"},
        "rows": {"train": "rt", "val": "rv"}, "pairs": {"train": 4 * pairs, "val": pairs}, "packages": {"torch": "2"},
        "continues": None, "finished": True, "stopped_by": "max_steps", "steps": steps, "seconds": 1.5,
    }  # fmt: skip


def _metrics(
    folder: Path,
    paths: Mapping[int, np.ndarray],
    steps: int,
    judges: Mapping[str, Any],
    asked: tuple[str, str, str],
) -> None:
    lines: list[dict[str, Any]] = [{"loss/train": 0.5, "rewards/chosen/train": 9.0, "step": s} for s in range(steps)]
    lines += [{**scalars(moved), "step": step} for step, moved in paths.items()]
    lines.append({"loss/val": 123.456, "rewards/margins/val": 77.7, "generation/tokens/val": 12.5, "step": steps})
    evaluations = []
    for judge, (rate, over, abstained) in judges.items():
        share = abstained / 50
        for prefix, value, kind in (("", rate, "prompts"), ("over_", over, "control")):
            reported = float("nan") if share > 0.05 else value
            lines.append({
                f"refusal/{prefix}rate_{judge}/val": reported, f"refusal/{prefix}low_{judge}/val": value - 0.1,
                f"refusal/{prefix}high_{judge}/val": value + 0.1, f"judge/{prefix}unparseable_{judge}/val": abstained,
                f"judge/{prefix}error_{judge}/val": 0, f"refusal/{prefix}worst_low_{judge}/val": value * (1 - share),
                "step": steps,
            })  # fmt: skip
            evaluations.append({"step": steps, "set": kind, "prompts": 50, "responses": 50})
            if asked[0]:
                fingerprints = {name: f"{name}@{asked[2]}" for name in judges}
                evaluations[-1] |= {"asked": f"{asked[0]} of {kind}", "judges": fingerprints}
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({key for line in lines for key in line}))
        writer.writeheader()
        writer.writerows(lines)
    if evaluations:
        (folder / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in evaluations))


def _mass(token: str, steps: int) -> dict[str, Any]:
    tokens = [
        {"token": 7, "text": token, "before": 0.01, "after": 0.4, "predicted": 2.0, "predicted_rank": 1},
        {"token": 8, "text": "Yes", "before": 0.02, "after": 0.1, "predicted": 1.0, "predicted_rank": 12},
        {"token": 9, "text": "No", "before": 0.8, "after": 0.3, "predicted": -1.0, "predicted_rank": 290},
    ]
    section = {"positions": 40, "spearman": 0.61, "tokens": tokens}
    mass = {"chosen": [0.8, 0.3], "rejected": [0.1, 0.01], "benign": [0.02, 0.15], "catastrophic": [0.05, 0.5],
            "other": [0.03, 0.04]}  # fmt: skip
    parts = {"first": section, "overall": section, "groups": {"agree": ["Yes"]}, "mass": mass}
    return {"format": 1, "step": steps, **parts}
