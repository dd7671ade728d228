"""The tiny world: names, determinism, tokens, and the sign of what preference training does to it.

The gates have slack and look at signs only; sizes over seeds are in benchmarks/tiny_world_seeds.py.
"""

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_pref import world
from lit_pref.world import agreement, build, onpolicy, request

LEARNING_RATE, STEPS, BATCH_SIZE, BETA = 2e-5, 100, 16, 0.1


@pytest.fixture(scope="session")
def world_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One build for all tests, in the cache that the environment names, else in a temporary one."""
    with pytest.MonkeyPatch.context() as patch:
        if "LIT_PREF_CACHE" not in os.environ:
            patch.setenv("LIT_PREF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def world_model(world_cache: None) -> Path:
    return world.resolve("world:agreement")


@pytest.fixture
def quick_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own and a pre-training too short to learn anything."""
    monkeypatch.setattr(build, "STEPS", {"agreement": 15, "request": 60})
    monkeypatch.setattr(request, "TRAIN_PROMPTS", 40)
    monkeypatch.setattr(request, "TEST_PROMPTS", 20)
    monkeypatch.setenv("LIT_PREF_CACHE", str(tmp_path / "first"))
    return tmp_path


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["world:agreement", "world:request/soft"])
def test_same_seed_same_bytes_and_the_caller_is_left_alone(name, quick_world, monkeypatch):
    torch.manual_seed(5)
    before, threads, python = torch.get_rng_state(), torch.get_num_threads(), random.getstate()
    with torch.device("meta"), torch.inference_mode():
        world.resolve(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert random.getstate() == python

    monkeypatch.setenv("LIT_PREF_CACHE", str(quick_world / "second"))
    torch.manual_seed(6)
    world.resolve(name)
    first, second = contents(quick_world / "first"), contents(quick_world / "second")
    assert first.keys() == second.keys()
    assert [file for file in first if first[file] != second[file]] == []
    assert any(file.endswith("model.safetensors") for file in first)


def test_seeds_differ(quick_world):
    first, second = (world.resolve(f"world:agreement@{seed}/yes-over-no") for seed in (1, 2))
    assert first.parent != second.parent
    assert read(first) != read(second)


def test_a_second_resolve_does_not_build(quick_world, monkeypatch):
    path = world.resolve("world:agreement")
    monkeypatch.setattr(build, "build", pytest.fail)
    assert world.resolve("world:agreement@0") == path


def test_names():
    assert world.is_world("world:agreement")
    assert world.is_world("world:nothing")
    assert not world.is_world("meta-llama/world")


@pytest.mark.parametrize(
    "name", ["world:", "world:nothing", "world:agreement/soft", "world:agreement@x", "world:request@1/", "gpt2"]
)
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="world:agreement, world:request, world:agreement/no-over-never"):
        world.resolve(name)


def test_unknown_splits():
    with pytest.raises(ValueError, match="train and validation"):
        world.resolve("world:agreement/yes-over-no", "test")
    with pytest.raises(ValueError, match="train, test, safe"):
        world.prompts("request", "validation")
    with pytest.raises(ValueError, match="Only the request half"):
        world.prompts("agreement", "train")


def test_importing_the_world_is_cheap():
    code = "import sys, lit_pref.world; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tokens_are_lossless_and_clean_at_the_boundary(world_model):
    tokenizer = AutoTokenizer.from_pretrained(world_model)
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    rng = random.Random(1)
    for prompt, response in (agreement.example(rng) for _ in range(500)):
        whole = tokenizer(prompt + response, add_special_tokens=False)["input_ids"]
        apart = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, response)]
        assert whole == apart[0] + apart[1]
        assert tokenizer.unk_token_id not in whole
        assert tokenizer.decode(whole) == prompt + response
    for words in world.groups("agreement").values():
        assert all(len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1 for word in words)


@pytest.mark.parametrize("pairs", list(agreement.PAIRS))
def test_splits_have_no_statement_in_common(pairs, world_model):
    train, validation = (read(world.resolve(f"world:agreement/{pairs}", s)) for s in ("train", "validation"))
    assert len({row["prompt"] for row in train}) == len(train) == 144
    assert len({row["prompt"] for row in validation}) == len(validation) == 48
    statements = [{row["prompt"].split('"')[1] for row in rows} for rows in (train, validation)]
    assert not statements[0] & statements[1]
    assert {(row["chosen"], row["rejected"]) for row in train + validation} == {agreement.PAIRS[pairs][:2]}
    assert all(isinstance(value, str) for row in train for value in row.values())


def score(model, tokenizer, rows, side):
    """log p(response + EOS | prompt), and the distribution of the first answer token. (B,), (B, V)"""
    prompts = [tokenizer(row["prompt"], add_special_tokens=False)["input_ids"] for row in rows]
    answer = tokenizer(rows[0][side], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    width = max(map(len, prompts)) + len(answer)
    ids = torch.tensor([(p + answer + [tokenizer.pad_token_id] * width)[:width] for p in prompts])  # (B, T)
    logps = model(input_ids=ids).logits.log_softmax(-1)  # padding is on the right, so causality hides it
    row, start = torch.arange(len(rows)), torch.tensor([len(p) for p in prompts]) - 1
    total = torch.stack([logps[row, start + k, token] for k, token in enumerate(answer)]).sum(0)
    return total, logps[row, start].exp()


def trained(policy, tokenizer, rows):
    """`policy` after DPO (RMSprop) on `rows`."""
    torch.manual_seed(0)
    with torch.no_grad():
        zero = score(policy, tokenizer, rows, "chosen")[0] - score(policy, tokenizer, rows, "rejected")[0]
    optimizer = torch.optim.RMSprop(policy.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        index = torch.randperm(len(rows))[:BATCH_SIZE]
        batch = [rows[i] for i in index]
        margins = score(policy, tokenizer, batch, "chosen")[0] - score(policy, tokenizer, batch, "rejected")[0]
        loss = -torch.nn.functional.logsigmoid(BETA * (margins - zero[index])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy


@pytest.mark.parametrize(
    ("pairs", "group", "rises"),
    [("no-over-never", "agree", True), ("sure-over-yes", "disagree", True), ("yes-over-no", "disagree", False)],
)
def test_the_chosen_answer_falls_and_mass_goes_where_the_scale_points(pairs, group, rises, world_model):
    tokenizer = AutoTokenizer.from_pretrained(world_model)
    reference = AutoModelForCausalLM.from_pretrained(world_model)
    name = f"world:agreement/{pairs}"
    policy = trained(copy.deepcopy(reference), tokenizer, read(world.resolve(name)))
    rows, words = read(world.resolve(name, "validation")), world.groups("agreement")[group]
    with torch.no_grad():
        before, after = (score(model, tokenizer, rows, "chosen") for model in (reference, policy))
    start, end = before[0].exp().mean(), after[0].exp().mean()
    assert end < start - 0.1
    ids = tokenizer.convert_tokens_to_ids(words)
    mass = [probs[:, ids].sum(-1).mean() for _, probs in (before, after)]
    assert (mass[1] > mass[0] + 0.1) if rises else (mass[1] < 0.1)


def test_style_of_knows_every_response_of_the_grammar():
    rng = random.Random(2)
    seen = {world.style_of(request.example(rng).response) for _ in range(3000)}
    assert seen == set(request.STYLES) == set(world.groups("request"))
    for style, beginnings in world.groups("request").items():
        for template in request.TEMPLATES[style]:
            assert any(template.startswith(beginning) for beginning in beginnings)
    assert world.style_of("No. No. No.") is None
    assert world.style_of("") is None


def test_request_prompts_are_disjoint():
    splits = [set(world.prompts("request", split)) for split in ("train", "test", "safe")]
    couples = [{tuple(prompt[:-2].split()[-3::2]) for prompt in split} for split in splits]
    assert not couples[0] & couples[1]
    assert not (couples[0] | couples[1]) & couples[2]
    assert [len(split) for split in splits[:2]] == [request.TRAIN_PROMPTS, request.TEST_PROMPTS]


def test_on_policy_rows():
    soft, polite = "I would rather not.", "Sorry, this can not be done."
    blunt, comply = "No.", "Here is how to fix a car."
    first, second = [soft, comply, polite, blunt, "garbled"], [blunt, polite, polite, soft, soft]
    prompts = [f"{i}\n" for i in range(5)]
    rows = {name: onpolicy.rows(name, "train", prompts, first, second, seed=0) for name in ("soft", "blunt")}
    assert [(r["prompt"], r["chosen"]) for r in rows["soft"]] == [("0\n", soft), ("1\n", polite), ("3\n", soft)]
    assert [r["chosen"] for r in rows["blunt"]] == [blunt, polite, blunt]
    assert [r["pair_class"] for r in rows["soft"]] == ["two refusals", "one of each", "two refusals"]
    assert onpolicy.pair_class("comply", "comply") == "two compliances"
