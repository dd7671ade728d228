"""Log-probabilities without logits, against log_softmax and autograd."""

import pytest
import torch
from torch import Tensor

from lit_pref import logit_tiles
from lit_pref import token_logps as module
from lit_pref.logit_rule import LogitRule
from lit_pref.token_logps import token_logps

RULES = [LogitRule(), LogitRule(0.25), LogitRule(cap=1.5), LogitRule(3.0, cap=2.0)]


def problem(
    tokens: int = 37, vocabulary: int = 101, size: int = 16, dtype: torch.dtype = torch.float64, peak: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, weight, bias, targets; the larger ``peak``, the more one token takes it all."""
    generator = torch.Generator().manual_seed(tokens + vocabulary)
    states, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((tokens, size), (vocabulary, size), (vocabulary,))
    )
    target = torch.randint(vocabulary, (tokens,), generator=generator)
    with torch.no_grad():
        states *= peak
    return states, weight, bias, target


def plain(states: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, rule: LogitRule) -> Tensor:
    """All logits at once, (N, V) log-probabilities and the targets' (N,)."""
    products = states @ weight.T if bias is None else states @ weight.T + bias
    logits = rule(products).to(torch.promote_types(states.dtype, torch.float32))
    return logits.log_softmax(-1).gather(1, target.unsqueeze(1)).squeeze(1)


def gradients(logps: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    """Of a sum in which every token weighs another amount, some less than nothing."""
    weights = torch.linspace(-1.0, 2.0, len(logps), dtype=logps.dtype)
    return torch.autograd.grad((logps * weights).sum(), of)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks of tokens, several tiles, the last ones smaller."""
    monkeypatch.setattr(logit_tiles, "TILE", 32)
    monkeypatch.setattr(module, "ROWS", 16)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("kept", [0, 16 * 32 + 1, 16 * 101 + 40, 1 << 20])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_it_is_log_softmax_and_its_gradient(rule: LogitRule, biased: bool, kept: int) -> None:
    """Whatever stays for backward: nothing, a part of the tiles, those of some chunks, everything."""
    states, weight, bias, target = problem()
    of = (states, weight, bias) if biased else (states, weight)
    offset = bias if biased else None
    expected = plain(states, weight, offset, target, rule)
    found, _ = token_logps(states, weight, offset, target, rule, kept=kept)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(found, *of), gradients(expected, *of), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.usefixtures("small_tiles")
def test_autograd_finds_the_same_slopes_by_differences() -> None:
    states, weight, bias, target = problem(5, 40, 4)
    rule = LogitRule(0.5, cap=2.0)
    assert torch.autograd.gradcheck(lambda *x: token_logps(*x, target, rule)[0], (states, weight, bias))


@pytest.mark.parametrize("peak", [0.01, 1.0, 30.0])
def test_float32_is_as_exact_as_torch(peak: float) -> None:
    """Flat and peaked softmaxes against float64: errors no larger than twice torch's own, of sums and of gradients."""
    exact = problem(300, 5000, 32, peak=peak)
    rounded = problem(300, 5000, 32, torch.float32, peak)
    truth = plain(exact[0], exact[1], None, exact[3], LogitRule())
    wanted = gradients(truth, *exact[:2])
    errors = []
    for logps in (plain(rounded[0], rounded[1], None, rounded[3], LogitRule()),
                  token_logps(rounded[0], rounded[1], None, rounded[3])[0]):  # fmt: skip
        apart = [(logps.double() - truth).abs().max()]
        found = gradients(logps, *rounded[:2])
        apart += [(a.double() - b).norm() / b.norm() for a, b in zip(found, wanted, strict=True)]
        errors.append(torch.stack(apart))
    theirs, ours = errors
    assert (ours <= 2 * theirs + torch.tensor([1e-5, 1e-6, 1e-6])).all(), (ours, theirs)


@pytest.mark.usefixtures("small_tiles")
def test_collisions_are_the_sum_of_squares() -> None:
    states, weight, bias, target = problem()
    logps, collisions = token_logps(states, weight, bias, target, LogitRule(2.0), collisions=True)
    assert collisions is not None
    assert not collisions.requires_grad
    probabilities = (2 * (states @ weight.T + bias)).softmax(-1)
    torch.testing.assert_close(collisions, (probabilities**2).sum(-1).log(), rtol=0, atol=1e-12)
    assert token_logps(states, weight, bias, target)[1] is None
    assert logps.requires_grad


def test_what_is_frozen_gets_no_gradient() -> None:
    """As under adapters, where the output embedding is frozen."""
    states, weight, _, target = problem()
    logps, _ = token_logps(states, weight.detach(), None, target)
    (found,) = gradients(logps, states)
    (expected,) = gradients(plain(states, weight.detach(), None, target, LogitRule()), states)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert not token_logps(states.detach(), weight.detach(), None, target)[0].requires_grad


def test_a_tied_weight_gets_both_gradients() -> None:
    _, weight, _, target = problem()
    tokens = torch.arange(len(target))
    ours, theirs = (
        gradients(logps, weight)[0]
        for logps in (
            token_logps(weight[tokens].tanh(), weight, None, target)[0],
            plain(weight[tokens].tanh(), weight, None, target, LogitRule()),
        )
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_bfloat16_rounds_factors_and_sums_in_float32() -> None:
    """Under autocast: no worse than torch under autocast, of the logits and of the gradients."""
    states, weight, _, target = problem(200, 3000, 64, torch.float32)
    truth = plain(states, weight, None, target, LogitRule())
    wanted = gradients(truth, states, weight)
    errors = []
    for compute in (plain, lambda *x: token_logps(*x)[0]):
        with torch.autocast("cpu", torch.bfloat16):
            logps = compute(states, weight, None, target, LogitRule())
        assert logps.dtype == torch.float32
        own = [(logps - truth).abs().mean()]
        own += [(a - b).norm() / b.norm() for a, b in zip(gradients(logps, states, weight), wanted, strict=True)]
        errors.append(torch.stack(own))
    theirs, ours = errors
    assert (ours <= 1.5 * theirs + 1e-3).all(), (ours, theirs)


def test_no_tokens_are_no_log_probabilities() -> None:
    states, weight, _, target = problem()
    logps, _ = token_logps(states[:0], weight, None, target[:0])
    assert logps.shape == (0,)
    (found,) = torch.autograd.grad(logps.sum(), weight)
    assert not found.any()


def test_memory_does_not_grow_with_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays for backward is within the budget, whatever the vocabulary."""
    monkeypatch.setattr(logit_tiles, "TILE", 64)
    for vocabulary in (640, 6400):
        states, weight, _, target = problem(20, vocabulary, 8)
        logps, _ = token_logps(states, weight, None, target, kept=20 * 64 * 3)
        chunks = logps.grad_fn.chunks  # type: ignore[union-attr]
        assert sum(tile.numel() for chunk in chunks for tile in chunk.exponentials) == 20 * 64 * 3
