"""Responses: those of transformers without chance, of the right distribution with it, the same in any batch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare, kstest
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TopKLogitsWarper, TopPLogitsWarper

from lit_pref.data.rows import DataError
from lit_pref.decoding import Cached, Reread, reader
from lit_pref.drawing import Sampling, allowed, choose, key, waiting_times
from lit_pref.errors import ConfigError, PrefError, SetupError
from lit_pref.generation import Generated, generate
from lit_pref.prompts import Prompt
from lit_pref.responses import Responses, plan_of, read_responses

from .conftest import SMALL, VOCAB

ROOT = Path(__file__).resolve().parents[1]
#: Many, so that responses end early and at different lengths.
STOP = frozenset(range(7, 40))
CPU = torch.device("cpu")


def ragged(count: int = 9, seed: int = 0, longest: int = 24) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest, (count,), generator=generator).tolist()
    return [torch.randint(7, VOCAB, (length,), generator=generator).tolist() for length in lengths]


def greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    """What transformers writes, prompt by prompt and so without padding."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, eos_token_id=sorted(STOP),
        pad_token_id=0,
    )  # fmt: skip
    return output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("name", SMALL)
def test_without_chance_it_is_what_transformers_writes(name: str, small_model: Callable[..., PreTrainedModel]) -> None:
    """Rows leave and join all the time; the window of gemma2 is shorter than prompts and responses."""
    model, prompts = small_model(name), ragged()
    assert isinstance(reader(model, CPU), Cached)
    found = generate(model, prompts, Sampling(30, temperature=0, batch_size=4), STOP)
    assert [response.ids for response in found] == [greedy(model, prompt, 30) for prompt in prompts]
    assert [(response.prompt, response.sample) for response in found] == [(i, 0) for i in range(9)]
    for response in found:
        assert response.ended == (response.ids[-1] in STOP)
        assert response.ended or len(response.ids) == 30


@pytest.mark.parametrize(("name", "changes"), [("lfm2", {"layer_types": ["conv", "full_attention"]}), ("mamba", {})])
def test_models_that_remember_more_than_keys_and_values(
    name: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, small_model: Callable[..., PreTrainedModel]
) -> None:
    monkeypatch.setitem(SMALL, name, {})
    model, prompts = small_model(name, **changes), ragged(5)
    assert isinstance(reader(model, CPU), Reread)
    found = generate(model, prompts, Sampling(12, temperature=0, batch_size=3), STOP)
    assert [response.ids for response in found] == [greedy(model, prompt, 12) for prompt in prompts]


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_draws_do_not_depend_on_the_batch(name: str, small_model: Callable[..., PreTrainedModel]) -> None:
    model, prompts = small_model(name), ragged()
    asked = {"max_new_tokens": 20, "samples": 3, "seed": 5}
    alone = generate(model, prompts, Sampling(**asked, batch_size=1), STOP)
    for size in (4, 16):
        assert generate(model, prompts, Sampling(**asked, batch_size=size), STOP) == alone
    order = [4, 0, 7]  # other prompts, in another order, under the same names
    some = generate(model, [prompts[i] for i in order], Sampling(**asked), STOP, numbers=order)
    assert [r.ids for r in some] == [alone[3 * i + sample].ids for i in order for sample in range(3)]
    assert len({tuple(r.ids) for r in alone}) > 20, "samples of a prompt differ"
    other = generate(model, prompts, Sampling(**{**asked, "seed": 6}), STOP)
    assert sum(a.ids == b.ids for a, b in zip(alone, other, strict=True)) < 5
    longer = generate(model, prompts, Sampling(**{**asked, "max_new_tokens": 24, "samples": 4}), STOP)
    assert [r.ids[:20] for r in longer if r.sample < 3] == [r.ids for r in alone], "more of the same"


def test_draws_do_not_depend_on_the_batch_in_the_tiny_world() -> None:
    from lit_pref.models import CausalLM
    from lit_pref.prompts import read_prompts, stop_tokens
    from lit_pref.responses import text_of
    from lit_pref.world import style_of

    source = CausalLM("world:request")
    model, tokenizer = source.build(), source.tokenizer()
    prompts = [prompt.ids for prompt in read_prompts("world:request/test", tokenizer, limit=60)]
    stop = stop_tokens(model, tokenizer)
    found = [generate(model, prompts, Sampling(24, batch_size=size), stop) for size in (1, 4, 16)]
    assert found[0] == found[1] == found[2]
    styles = [style_of(text_of(tokenizer, response.ids)) for response in found[0]]
    assert sum(style is not None for style in styles) > 45, "it speaks the language of its world"
    assert {"soft", "blunt"} <= set(styles)


def test_one_step_has_the_distribution_of_the_model() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -3.0, 0.5]])
    keys = [key(3, prompt, 0, 0) for prompt in range(20_000)]
    for sampling in (Sampling(), Sampling(temperature=0.5), Sampling(top_k=3), Sampling(top_p=0.8)):
        tokens = choose(logits.expand(len(keys), -1), keys, sampling)
        probs = allowed(logits.double() / sampling.temperature, sampling).softmax(-1)[0]
        counts = torch.bincount(tokens, minlength=6)
        assert int(counts[probs == 0].sum()) == 0
        kept = probs > 0
        assert chisquare(counts[kept].numpy(), (probs[kept] * len(keys)).numpy()).pvalue > 1e-3


def test_noise_is_exponential_and_unrelated_between_draws() -> None:
    like = torch.zeros(1, 400, dtype=torch.float64)
    keys = [key(0, prompt, sample, step) for prompt in range(6) for sample in range(2) for step in range(4)]
    assert len(set(keys)) == 48
    times = waiting_times(keys, like)
    assert kstest(times.flatten().numpy(), "expon").pvalue > 1e-3
    assert torch.isfinite(times).all()
    assert (times > 0).all()
    correlations = torch.corrcoef(times) - torch.eye(48)
    assert correlations.abs().max() < 0.25  # five standard deviations
    assert torch.equal(waiting_times(keys[7:8], like)[0], times[7]), "a row of its own"


def test_top_k_and_top_p_leave_out_what_transformers_leaves_out() -> None:
    scores = torch.randn(40, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    nothing = torch.zeros(40, 1, dtype=torch.long)
    for k, p in ((7, 1.0), (0, 0.6), (12, 0.8), (50, 1.0), (1, 0.01)):
        expected = TopKLogitsWarper(k)(nothing, scores) if k else scores
        expected = TopPLogitsWarper(p)(nothing, expected) if p < 1 else expected
        assert torch.equal(allowed(scores, Sampling(top_k=k, top_p=p)), expected)


def test_with_adapters_and_in_the_mode_that_it_was(small_model: Callable[..., PreTrainedModel]) -> None:
    from peft import LoraConfig, get_peft_model

    prompts, sampling = ragged(4), Sampling(8, seed=1)
    bare = generate(small_model(), prompts, sampling, STOP)
    model = get_peft_model(small_model(), LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.5)).train()
    modes = [module.training for module in model.modules()]
    assert generate(model, prompts, sampling, STOP) == bare, "fresh adapters change nothing, and nothing drops out"
    assert [module.training for module in model.modules()] == modes
    assert all(weight.grad is None for weight in model.parameters())


def test_each_prompt_is_read_once_however_many_samples(small_model: Callable[..., PreTrainedModel]) -> None:
    model, read = small_model(), []
    hook = model.register_forward_pre_hook(lambda _m, _a, kw: read.append(kw["input_ids"].shape), with_kwargs=True)
    generate(model, [[9] * 5, [8] * 3], Sampling(1, samples=6), STOP)
    hook.remove()
    assert read == [(2, 5)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0, but must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"temperature": -0.5}, "temperature is -0.5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"temperature": 0, "samples": 3}, "all of them would be the same"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**values)


def test_prompts_that_cannot_be_answered(small_model: Callable[..., PreTrainedModel]) -> None:
    model = small_model()
    with pytest.raises(ConfigError, match="prompt 1 has no token"):
        generate(model, [[5], []], Sampling(4), STOP)
    with pytest.raises(ConfigError, match="prompt 0 has 500 tokens.*512 positions"):
        generate(model, [[5] * 500], Sampling(13), STOP)
    assert generate(model, [], Sampling(4), STOP) == []
    with torch.no_grad():
        model.get_output_embeddings().weight[3, 0] = float("nan")
    for temperature in (0.0, 1.0):
        with pytest.raises(PrefError, match="behind prompt 7 are not finite numbers"):
            generate(model, [[5]], Sampling(4, temperature=temperature), STOP, numbers=[7])


# --- the file of responses


def plan(model_folder: Path, path: Path, tokenizer: Any, samples: int = 1) -> tuple[Responses, Sampling, list[Prompt]]:
    prompts = [Prompt(10 + i, f"p{i}", f"text {i}", ids) for i, ids in enumerate(ragged(12))]
    sampling = Sampling(40, seed=3, samples=samples, batch_size=3)
    name = plan_of(prompts, sampling, STOP, str(model_folder))
    return Responses(path, name, prompts, tokenizer), sampling, prompts


SCRIPT = """
import sys, time
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
sys.path.insert(0, {root!r})
torch.set_num_threads(1)
from tests.test_generation import STOP, generate, plan
folder, path, delay = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(folder)
responses, sampling, prompts = plan(folder, path, tokenizer)
def sink(finished):
    responses(finished)
    time.sleep(delay)
model = AutoModelForCausalLM.from_pretrained(folder)
done = responses.done()
print("calls saved", len(done), flush=True)
generate(model, [p.ids for p in prompts], sampling, STOP, sink=sink, numbers=[p.number for p in prompts], done=done)
"""


def test_what_was_finished_before_a_kill_is_not_written_again(
    model_folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    path, script = tmp_path / "run" / "responses.jsonl", tmp_path / "script.py"
    script.write_text(SCRIPT.format(root=str(ROOT)))
    command = [sys.executable, str(script), str(model_folder), str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "0.3"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while (not path.exists() or path.read_bytes().count(b"\n") < 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = path.read_bytes()
    assert 3 <= before.count(b"\n") < 12
    with path.open("ab") as file:
        file.write(b'{"plan": "torn')
    result = subprocess.run([*command, "0"], env=environment, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr[-2000:]
    assert f"calls saved {before.count(bytes([10]))}" in result.stdout
    after = path.read_bytes()
    assert after.startswith(before), "only ever appended"
    lines = [json.loads(line) for line in after.splitlines()]
    assert sorted(line["index"] for line in lines) == list(range(10, 22)), "each once"

    responses, sampling, prompts = plan(model_folder, path, tokenizer)
    model, ids = AutoModelForCausalLM.from_pretrained(model_folder), [p.ids for p in prompts]
    whole = generate(model, ids, sampling, STOP, numbers=[p.number for p in prompts])
    assert responses.done() == whole, "as if nothing had happened"
    line = min(lines, key=lambda line: line["index"])
    assert (line["id"], line["prompt"], line["tokens"]) == ("p0", "text 0", whole[0].ids)
    assert line["response"] == tokenizer.decode(whole[0].ids, skip_special_tokens=True)
    assert line["ended"] == whole[0].ended


def test_what_exists_costs_no_call(model_folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    responses, sampling, prompts = plan(model_folder, tmp_path / "r.jsonl", tokenizer)
    ids = [prompt.ids for prompt in prompts]
    first = generate(model, ids, sampling, STOP, sink=responses)
    assert responses.done() == first
    calls: list[int] = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    assert generate(model, ids, sampling, STOP, sink=responses, done=responses.done()) == first
    assert not calls
    more, sampling, _ = plan(model_folder, tmp_path / "r.jsonl", tokenizer, samples=2)
    assert more.plan == responses.plan, "a second sample is no other plan"
    both = generate(model, ids, sampling, STOP, sink=more, done=more.done())
    assert [response for response in both if response.sample == 0] == first
    assert len(list(read_responses(tmp_path / "r.jsonl"))) == 24
    more.complete(both)
    assert len(list(read_responses(tmp_path / "r.jsonl"))) == 24
    other = Responses(tmp_path / "r.jsonl", "another plan", prompts, tokenizer)
    assert other.done() == []


def test_a_file_that_someone_changed_and_one_that_cannot_be_written(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    path = tmp_path / "responses.jsonl"
    responses = Responses(path, "plan", [Prompt(0, None, "?", [5])], tokenizer)
    responses([Generated(0, 0, [9, 2], True)])
    path.write_bytes(b"oops\n" + path.read_bytes())
    with pytest.raises(DataError, match=r"responses.jsonl:1: this line is not one"):
        responses.done()
    blocked = Responses(path / "below" / "r.jsonl", "plan", responses.prompts, tokenizer)
    with pytest.raises(SetupError, match="cannot be written"):
        blocked([Generated(0, 0, [9, 2], True)])


# --- two processes

TWO = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, AutoTokenizer
sys.path.insert(0, {root!r})
torch.set_num_threads(1)
from lit_pref.processes import Processes
from tests.test_generation import STOP, generate, plan
folder, out, collective = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "collective"
rank = int(os.environ["RANK"])
dist.init_process_group("gloo", init_method=f"file://{{out}}/store", rank=rank, world_size=2)
def total(values):
    values = values.clone()
    dist.all_reduce(values)
    return values
processes = Processes(rank, 2, total=total)
tokenizer = AutoTokenizer.from_pretrained(folder)
responses, sampling, prompts = plan(folder, out / "responses.jsonl", tokenizer, samples=2)
responses = type(responses)(responses.path, responses.plan, prompts, tokenizer, processes)
model = AutoModelForCausalLM.from_pretrained(folder)
calls = []
def meet(*_):
    calls.append(1)
    if collective:
        dist.all_reduce(torch.zeros(1))
model.get_output_embeddings().register_forward_pre_hook(meet)
# Only process 0 sees what an earlier run wrote.
done = responses.done() if rank == 0 else []
found = generate(model, [p.ids for p in prompts], sampling, STOP, processes, responses,
                 [p.number for p in prompts], done, collective)
beside = len(list(out.glob("responses.rank-1.jsonl")))
responses.complete(found)
(out / f"{{rank}}.json").write_text(json.dumps([[list(r) for r in found], len(calls), len(done), beside]))
"""


@pytest.mark.parametrize("mode", ["collective", "apart"])
def test_two_processes_write_what_one_writes(
    mode: str, model_folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """Where each call of the model waits for the other process, both make equally many, whatever they have to do."""
    from transformers import AutoModelForCausalLM

    path, script = tmp_path / "responses.jsonl", tmp_path / "script.py"
    script.write_text(TWO.format(root=str(ROOT)))
    responses, sampling, prompts = plan(model_folder, path, tokenizer, samples=2)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    numbers = [prompt.number for prompt in prompts]
    one = generate(model, [prompt.ids for prompt in prompts], sampling, STOP, numbers=numbers)
    responses(one[:3])  # of an earlier run
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(model_folder), str(tmp_path), mode],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(2)
    ]
    try:
        for process in running:
            assert process.wait(timeout=100) == 0, process.stderr.read()[-2000:]  # type: ignore[union-attr]
    finally:
        for process in running:
            process.kill()
    (first, calls, done, _), (second, other_calls, other_done, beside) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)
    )
    assert first == second == [list(response) for response in one], "on both, in order"
    assert (done, other_done, beside) == (3, 0, 1)
    assert (calls == other_calls) == (mode == "collective"), "by themselves they need different numbers of calls"
    assert responses.done() == one, "all in one file in the end"
    assert len(list(read_responses(path))) == 24
    assert not list(tmp_path.glob("*.rank-*"))
