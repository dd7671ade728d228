"""Packed rows and log-probabilities without logits, over architectures: exact where they are used, else not used."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from lit_pref import fast_path as module
from lit_pref import packed_blocks
from lit_pref.adapters import LoRA, with_adapters
from lit_pref.batch import Pair, collate
from lit_pref.fast_path import FastPath, fast_path, pad_always
from lit_pref.logit_rule import LogitRule
from lit_pref.models import CausalLM
from lit_pref.scoring import Wanted, score

CPU = torch.device("cpu")
COMMON = {
    "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "vocab_size": 300, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
#: Architectures that read packed rows, the rule of their logits, and what their configs need to be small. Windows are
#: shorter than the pairs, caps so low that nothing passes without them.
EXACT: dict[str, tuple[LogitRule, dict[str, Any]]] = {
    "llama": (LogitRule(), {}),
    "qwen2": (LogitRule(), {"tie_word_embeddings": True}),
    "qwen3": (LogitRule(), {"head_dim": 8}),
    "mistral": (LogitRule(), {"sliding_window": 9}),
    "mixtral": (LogitRule(), {"num_local_experts": 4}),
    "gemma": (LogitRule(), {"head_dim": 8}),
    "gemma2": (LogitRule(cap=2.0), {"head_dim": 8, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 5.0,
                                    "sliding_window": 9}),
    "gemma3_text": (LogitRule(), {"head_dim": 8, "sliding_window": 9}),
    "olmo": (LogitRule(), {}),
    "olmo2": (LogitRule(), {}),
    "olmo3": (LogitRule(), {"sliding_window": 9}),
    "granite": (LogitRule(0.125), {"logits_scaling": 8.0}),
    "cohere": (LogitRule(0.25), {"logit_scale": 0.25}),
    "cohere2": (LogitRule(0.25), {"logit_scale": 0.25, "sliding_window": 9}),
    "phi": (LogitRule(), {}),  # with a bias of the output embedding
    "phi3": (LogitRule(), {}),
    "starcoder2": (LogitRule(), {"sliding_window": 9}),
    "stablelm": (LogitRule(), {}),
    "gpt_neox": (LogitRule(), {}),
    "gpt2": (LogitRule(), {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    "opt": (LogitRule(), {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "nemotron": (LogitRule(), {}),
    "smollm3": (LogitRule(), {}),
    "glm4": (LogitRule(), {"head_dim": 8}),
    "qwen3_moe": (LogitRule(), {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}),
    "lfm2": (LogitRule(), {"layer_types": ["full_attention", "full_attention"]}),
}  # fmt: skip
#: Architectures that do not: they ignore the attention they are given, or have other ways from token to token.
PADDED: dict[str, dict[str, Any]] = {
    "falcon": {},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
    "bloom": {"n_head": 4, "n_layer": 2},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2},
    "mamba": {},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_state": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "gpt_oss": {"head_dim": 8, "num_local_experts": 4},
}


def built(name: str, **changes: Any) -> PreTrainedModel:
    """A model with weights large enough that attention and softmaxes are far from flat."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **COMMON | changes))
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def pairs() -> list[Pair]:
    """Short pairs, which share a call, one of many tokens, which has its own, and responses of one token."""
    generator = torch.Generator().manual_seed(1)

    def ids(count: int) -> list[int]:
        return torch.randint(3, 300, (count,), generator=generator).tolist()

    sizes = [(4, 3, 9), (1, 1, 1), (60, 50, 41), (12, 1, 30)]
    return [Pair(row, *map(ids, size)) for row, size in enumerate(sizes)]


def measured(model: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """(2, 4) log-probabilities, and the gradient of something like a loss by every parameter that trains."""
    found = score(model, collate(pairs()))
    logps = torch.stack([found.chosen.logps, found.rejected.logps])
    weights = torch.tensor([[1.0, -0.5, 0.7, 0.2], [-1.0, 0.4, -0.1, 2.0]])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad((logps * weights).sum(), trained, allow_unused=True)
    return logps.detach(), [g for g in gradients if g is not None]


def slow(model: nn.Module) -> nn.Module:
    """The same model, padded, with logits of its own."""
    module._of_models[model] = FastPath(False, None)
    return model


def close(ours: tuple[Tensor, list[Tensor]], theirs: tuple[Tensor, list[Tensor]]) -> None:
    """To the project's promise: 2e-4 of a log-probability of some hundred nats, 1e-5 of each gradient's size."""
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=2e-4)
    largest = max(float(g.norm()) for g in theirs[1])
    for one, other in zip(ours[1], theirs[1], strict=True):
        assert float((one - other).norm()) <= 1e-5 * float(other.norm()) + 1e-7 * largest


@pytest.mark.parametrize("name", EXACT)
def test_packed_pairs_have_the_scores_and_gradients_of_padded_ones(name: str) -> None:
    rule, changes = EXACT[name]
    model = built(name, **changes)
    assert fast_path(model, CPU) == FastPath(True, rule)
    close(measured(model), measured(slow(built(name, **changes))))


@pytest.mark.parametrize("name", PADDED)
def test_architectures_that_cannot_are_found_out_and_padded(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module._of_architectures.clear()
    model = built(name, **PADDED[name])
    before = model.config._attn_implementation
    found = fast_path(model, CPU)
    assert not found.packs
    assert f"{type(model).__name__} reads padded pairs" in capsys.readouterr().out
    assert model.config._attn_implementation == before
    close(measured(model), measured(slow(built(name, **PADDED[name]))))


def test_attention_that_does_not_keep_responses_apart_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of an architecture that takes the groups and ignores them."""
    monkeypatch.setattr(packed_blocks, "visible", lambda groups, window: torch.ones(
        sum(g.tokens for g in groups), sum(g.tokens for g in groups), dtype=torch.bool).tril())  # fmt: skip
    module._of_architectures.clear()
    assert not fast_path(built("llama"), CPU).packs
    assert "states differ by" in capsys.readouterr().out


def test_a_window_that_attention_is_not_told_of_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Longer than what is tried, so that numbers cannot show it."""
    module._of_architectures.clear()
    assert not fast_path(built("llama", sliding_window=400), CPU).packs
    assert "window of 400 tokens" in capsys.readouterr().out


class Odd(LlamaForCausalLM):
    """Does something to logits that no rule knows."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = super().forward(*args, **kwargs)
        found.logits = found.logits + 0.1 * found.logits.square()
        return found


def test_logits_that_follow_no_rule_stay_the_models_own() -> None:
    config = AutoConfig.for_model("llama", **COMMON)
    torch.manual_seed(0)
    model = Odd(config).eval()
    assert fast_path(model, CPU) == FastPath(True, None)
    twin = Odd(config).eval()
    twin.load_state_dict(model.state_dict())
    close(measured(model), measured(slow(twin)))


@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["q_proj", "lm_head"]])
def test_adapters(modules: list[str]) -> None:
    """On attention nothing changes; one on the output embedding makes products of more than one matrix."""
    models = []
    for _ in range(2):
        model = with_adapters(built("llama"), LoRA(r=4, target_modules=modules), False)
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        models.append(model.eval())
    assert fast_path(models[0], CPU) == FastPath(True, None if "lm_head" in modules else LogitRule())
    close(measured(models[0]), measured(slow(models[1])))


def test_recomputed_activations_read_packed_rows_too() -> None:
    """Gradient checkpointing runs attention again in backward, when the first forward is over."""
    models = [built("llama"), built("llama")]
    models[0].gradient_checkpointing_enable({"use_reentrant": False})
    models[0].train()
    close(measured(models[0]), measured(slow(models[1])))
    assert fast_path(models[0], CPU).packs
    assert models[0].training


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gemma2", "mistral"])
def test_whatever_else_a_model_does_stays_as_it_was(name: str, tmp_path: Any) -> None:
    """Bit for bit: a padded forward, generation with its cache, and what is saved."""
    changes = EXACT[name][1]
    plain, packed = built(name, **changes), built(name, **changes)
    assert fast_path(packed, CPU).packs
    ids = torch.randint(3, 300, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 12:] = mask[1, :4] = 0
    assert torch.equal(plain(ids, attention_mask=mask).logits, packed(ids, attention_mask=mask).logits)
    told = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    assert torch.equal(plain.generate(ids, **told), packed.generate(ids, **told))  # type: ignore[operator]
    for model, folder in ((plain, "plain"), (packed, "packed")):
        model.save_pretrained(tmp_path / folder)
    assert (tmp_path / "plain/config.json").read_bytes() == (tmp_path / "packed/config.json").read_bytes()


def test_it_is_tried_once_an_architecture_and_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    module._of_architectures.clear()
    calls = []
    real = module._tried
    monkeypatch.setattr(module, "_tried", lambda *args: calls.append(1) or real(*args))
    state = torch.get_rng_state()
    for _ in range(3):
        assert fast_path(built("qwen2"), CPU).packs
    assert len(calls) == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert fast_path(built("qwen2", num_hidden_layers=1), CPU).packs
    assert len(calls) == 2


@pytest.mark.parametrize("positions", [16, 40])
def test_models_of_few_positions_are_tried_on_few_tokens(positions: int) -> None:
    model = built("gpt2", **EXACT["gpt2"][1], n_positions=positions)
    assert fast_path(model, CPU) == FastPath(True, LogitRule())


def test_packing_can_be_left(model_folder: Any) -> None:
    """``model.policy.layout: padded``."""
    assert fast_path(CausalLM(str(model_folder)).build(), CPU) == FastPath(True, LogitRule())
    padded = CausalLM(str(model_folder), layout="padded")
    assert fast_path(padded.build(), CPU) == fast_path(padded.build_frozen(), CPU) == FastPath(False, LogitRule())
    adapted = with_adapters(built("llama"), LoRA(target_modules=["q_proj"]), False)
    pad_always(adapted.get_base_model())  # type: ignore[operator]
    assert not fast_path(adapted, CPU).packs


@torch.no_grad()
def test_bfloat16_weights_pack_and_round() -> None:
    exact, rounded = built("llama"), built("llama").to(torch.bfloat16)
    assert fast_path(rounded, CPU) == FastPath(True, LogitRule())
    ours, padded = (score(m, collate(pairs())).chosen.logps for m in (rounded, slow(built("llama").to(torch.bfloat16))))
    truth = score(exact, collate(pairs())).chosen.logps
    assert (ours - truth).abs().max() <= 2 * (padded - truth).abs().max() + 0.05


@torch.no_grad()
def test_tokens_have_their_collisions() -> None:
    fields = []
    for model in (built("gemma2", **EXACT["gemma2"][1]), slow(built("gemma2", **EXACT["gemma2"][1]))):
        tokens = score(model, collate(pairs()), Wanted(tokens=True)).rejected.tokens
        assert tokens is not None
        fields.append(tokens)
    for ours, theirs in zip(*fields, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)
