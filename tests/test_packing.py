"""Packed rows: where tokens, positions and states stand, and which token sees which."""

import pytest
import torch
from torch import Tensor

from lit_pref import packed_blocks
from lit_pref.batch import Pair, collate, lay_out, lay_out_packed
from lit_pref.packed_attention import attend
from lit_pref.packed_blocks import Row, blocks, visible
from lit_pref.packing import Group, decode, encode, pack

GROUPS = [Group(3, (2, 4)), Group(1, (1,)), Group(5, (3, 1, 2)), Group(2, ())]


def test_a_prompt_stands_once_before_its_responses() -> None:
    row = pack([([1, 2, 3], [[4, 5], [6, 7, 8]]), ([9], [[10]])])
    assert row.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 0, 1]]
    # Both responses' first tokens are predicted by the prompt's last state.
    assert row.state_index.tolist() == [2, 3, 2, 5, 6, 8]
    assert row.first_index.tolist() == [3, 5, 9]
    assert row.groups == (Group(3, (2, 3)), Group(1, (1,)))


def test_responses_are_listed_in_the_order_that_is_asked_for() -> None:
    row = pack([([1, 2], [[3], [4]]), ([5], [[6], [7]])], [(0, 0), (1, 0), (0, 1), (1, 1)])
    assert row.state_index.tolist() == [1, 4, 1, 4]
    assert row.first_index.tolist() == [2, 5, 3, 6]


def test_groups_survive_the_way_through_a_model() -> None:
    code = encode(GROUPS)
    assert code.shape[:3] == (1, 1, 1)
    assert code.dtype == torch.int64
    assert decode(code) == GROUPS


def test_a_batch_lists_packed_states_as_it_lists_targets() -> None:
    pairs = [Pair(0, [1, 2, 3], [4, 5], [6]), Pair(1, [7], [8], [9, 10])]
    batch = collate(pairs)
    packed, padded = batch.layout(True), batch.layout(False)
    assert packed.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
    assert packed.attention_mask is None
    assert packed.state_index.tolist() == [2, 3, 6, 2, 6, 8]
    assert padded.state_index.tolist() == [2, 3, 5, 12, 15, 16]
    assert packed.target.tolist() == padded.target.tolist() == [4, 5, 8, 6, 9, 10]
    assert packed.sequence.tolist() == padded.sequence.tolist() == [0, 0, 1, 2, 3, 3]


def test_equal_prompts_stand_once() -> None:
    sequences = [([1, 2], [3]), ([4], [5, 6]), ([1, 2], [7, 8])]
    layout, padded = lay_out_packed(sequences), lay_out(sequences)
    assert layout.input_ids.tolist() == [[1, 2, 3, 7, 8, 4, 5, 6]]
    for name in ("target", "sequence", "lengths"):
        assert torch.equal(getattr(layout, name), getattr(padded, name))
    flat = layout.input_ids.flatten()
    assert layout.first_index is not None
    assert flat[layout.first_index].tolist() == [3, 5, 7]
    assert padded.first_index is not None
    assert padded.input_ids.flatten()[padded.first_index].tolist() == [3, 5, 7]


@pytest.mark.parametrize("window", [None, 2, 4])
def test_a_token_sees_its_prompt_and_its_own_response(window: int | None) -> None:
    """Against the definition, token by token."""
    names = [(g, branch, place) for g, group in enumerate(GROUPS)
             for branch, length in enumerate((group.prompt, *group.responses))
             for place in range(length)]  # fmt: skip
    position = [place + (GROUPS[g].prompt if branch else 0) for g, branch, place in names]
    seen = visible(tuple(GROUPS), window)
    for q, (g, branch, _) in enumerate(names):
        for k, (other, other_branch, _) in enumerate(names):
            far = position[q] - position[k]
            expected = g == other and other_branch in (0, branch) and far >= 0 and (window is None or far < window)
            assert bool(seen[q, k]) == expected


def dense(q: Tensor, k: Tensor, v: Tensor, groups: list[Group], window: int | None, cap: float | None) -> Tensor:
    """One matrix of all products."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(2, 3) * 0.3
    scores = scores if cap is None else torch.tanh(scores / cap) * cap
    return (scores.masked_fill(~visible(tuple(groups), window), -torch.inf).softmax(-1) @ v).transpose(1, 2)


@pytest.mark.parametrize("together", [0, 6, 128])
@pytest.mark.parametrize("cap", [None, 1.0])
@pytest.mark.parametrize("window", [None, 3, 6])
def test_attention_by_blocks_is_attention(
    window: int | None, cap: float | None, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether groups share calls or have several each; outputs and gradients, with grouped heads."""
    monkeypatch.setattr(packed_blocks, "DENSE_TOKENS", together)
    generator = torch.Generator().manual_seed(0)
    tokens = sum(group.tokens for group in GROUPS)
    q, k, v = (torch.randn(1, heads, tokens, 8, generator=generator, dtype=torch.float64).requires_grad_()
               for heads in (4, 2, 2))  # fmt: skip
    expected = dense(q, k, v, GROUPS, window, cap)
    found = attend(q, k, v, Row(GROUPS), 0.3, window=window, softcap=cap)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for ours, theirs in zip(*(torch.autograd.grad((x * weights).sum(), (q, k, v)) for x in (found, expected)),
                            strict=True):  # fmt: skip
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_few_tokens_share_a_call_and_many_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_blocks, "DENSE_TOKENS", 9)
    found = blocks([Group(2, (1, 1)), Group(3, (1,)), Group(10, (4, 0, 5)), Group(1, (1, 1))])
    assert [(block.queries, block.prompt, len(block.groups)) for block in found] == [
        (8, 0, 2), (14, 0, 0), (5, 10, 0), (3, 0, 1),
    ]  # fmt: skip


def test_masks_are_made_once_for_all_layers() -> None:
    row = Row(GROUPS)
    device = torch.device("cpu")
    assert row.masks(None, device) is row.masks(None, device)
    assert row.masks(3, device) is not row.masks(None, device)


def test_dropout_reaches_attention() -> None:
    q, k, v = (torch.randn(1, 1, 5, 4) for _ in range(3))
    row = Row([Group(3, (2,))])
    for cap in (None, 1.0):
        dropped, whole = (attend(q, k, v, row, None, dropout=p, softcap=cap) for p in (0.9, 0.0))
        assert not torch.equal(dropped, whole)
