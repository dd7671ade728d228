"""A model's weights come from its files or the model is refused: classifiers, heads, tied heads, torn checkpoints."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from lit_pref.errors import SetupError
from lit_pref.judges import ClassifierJudge, GenerativeJudge
from lit_pref.models import CausalLM
from lit_pref.preferences import RewardModel

WEIGHTS = "model.safetensors"


@pytest.fixture
def saved(small_config: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> Callable[..., Path]:
    """The folder of a small model of any class, without weights that ``drop`` names."""

    def make(auto: Any, architecture: str = "llama", drop: str = "", **changes: Any) -> Path:
        folder = tmp_path / "model"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            auto.from_config(small_config(architecture, **changes)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if drop:
            kept = {name: w for name, w in load_file(folder / WEIGHTS).items() if not re.search(drop, name)}
            save_file(kept, folder / WEIGHTS, {"format": "pt"})
        return folder

    return make


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(SetupError) as caught:
        act()
    assert caught.value.exit_code == 5
    return str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "tied"), [("llama", False), ("llama", True), ("gemma2", True), ("gpt2", True)]
)
def test_whole_models_are_loaded(saved: Any, architecture: str, tied: bool) -> None:
    folder = saved(AutoModelForCausalLM, architecture, tie_word_embeddings=tied)
    model = CausalLM(str(folder)).build()
    held = load_file(folder / WEIGHTS)
    assert ("lm_head.weight" in held) is not tied
    head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    assert (head is embedding) is tied
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in held.items())


def test_what_the_config_leaves_out_is_no_lack(saved: Any) -> None:
    folder = saved(AutoModelForCausalLM)
    assert CausalLM(str(folder), config={"num_hidden_layers": 1}).build_frozen().config.num_hidden_layers == 1
    assert CausalLM(str(folder), weights="random", config={"num_hidden_layers": 5}).build_frozen()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_classifier_is_no_language_model(saved: Any, tied: bool, frozen: bool) -> None:
    folder = saved(AutoModelForSequenceClassification, tie_word_embeddings=tied)
    source = CausalLM(str(folder))
    said = refusal(source.build_frozen if frozen else source.build)
    assert repr(str(folder)) in said
    assert "is no causal language model" in said
    assert "names LlamaForSequenceClassification; LlamaForCausalLM was" in said
    assert ("lm_head.weight" in said) is not tied, "a tied head is not missing"
    assert "Fix: give the folder or hub name of a causal language model." in said


def test_the_worlds_judge_is_no_language_model() -> None:
    for act in (CausalLM("world:judge").build, GenerativeJudge("world:judge").judge):
        said = refusal(lambda act=act: act() if "build" in act.__name__ else act([("p", "r")]))  # type: ignore[misc]
        assert "'world:judge' is no causal language model" in said
        assert "BertForSequenceClassification" in said


def test_a_bare_model_has_no_head(saved: Any) -> None:
    said = refusal(CausalLM(str(saved(AutoModel, tie_word_embeddings=False))).build)
    assert "is no causal language model: its files have no weights for lm_head.weight, which would be random" in said


def test_a_torn_checkpoint_is_incomplete(saved: Any) -> None:
    folder = saved(AutoModelForCausalLM, drop=r"layers\.1\.(mlp|self_attn)")
    said = refusal(CausalLM(str(folder)).build)
    assert "is incomplete" in said
    assert re.search(
        r"model\.layers\.1\.mlp\.down_proj\.weight, .* and 4 more, which would be random \(7 of 21\)", said
    )
    assert "copy or download" in said


def test_a_torn_head_counts_where_it_is_not_tied(saved: Any) -> None:
    assert "lm_head.weight" in refusal(CausalLM(str(saved(AutoModelForCausalLM, drop="lm_head"))).build)


def test_a_config_that_asks_for_more_than_the_files_hold(saved: Any) -> None:
    folder = saved(AutoModelForCausalLM)
    for change in ({"num_hidden_layers": 3}, {"vocab_size": 400}):
        said = refusal(CausalLM(str(folder), config=change).build)
        assert "is incomplete" in said
        assert "`config`" in said


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_is_no_judge_and_no_reward_model(saved: Any, tied: bool) -> None:
    folder = saved(AutoModelForCausalLM, tie_word_embeddings=tied)
    labels: Any = {"LABEL_0": "refusal", "LABEL_1": "compliance"}
    for act, name in (
        (lambda: ClassifierJudge(str(folder), labels).prepare(torch.device("cpu")), "the judge's model"),
        (lambda: RewardModel(str(folder)).prepare(torch.device("cpu")), "the reward model"),
    ):
        said = refusal(act)
        assert said.startswith(f"{name} {str(folder)!r} is no classifier")
        assert "score.weight" in said
        assert "names LlamaForCausalLM; LlamaForSequenceClassification was" in said
        assert "trained for sequence classification" in said


def test_a_torn_classifier_is_incomplete(saved: Any) -> None:
    folder = saved(AutoModelForSequenceClassification, num_labels=1, drop="score")
    assert "is incomplete" in refusal(lambda: RewardModel(str(folder)).prepare(torch.device("cpu")))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": None}))
    assert "names no class" in refusal(lambda: RewardModel(str(folder)).prepare(torch.device("cpu")))


def test_a_model_keeps_its_name_where_its_folder_goes_and_loses_it_with_its_weights(saved: Any, tmp_path: Path) -> None:
    first = saved(AutoModelForCausalLM)
    before = CausalLM(str(first)).fingerprint()
    moved = first.rename(tmp_path / "moved")
    assert CausalLM(str(moved)).fingerprint() == before
    weights = load_file(moved / WEIGHTS)
    weights["model.norm.weight"] += 1
    save_file(weights, moved / WEIGHTS, {"format": "pt"})
    assert CausalLM(str(moved)).fingerprint() != before
