"""Against a dense float64 formulation, and in a DeepSpeed engine that shards the parameters."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from pta_ray.config import Divergence, Tail, Training
from pta_ray.training.batches import empty_batch
from pta_ray.training.divergence import DIVERGENCES
from pta_ray.training.loss import ChunkedLoss, SetTargets, TokenTargets
from pta_ray.training.student import Student
from tests.oracles.objective import dense_objective
from tests.unit.training.processes import in_processes

N, H, V, K = 21, 8, 23, 4
SORTED_IDS = [int(i) for i in np.random.default_rng(0).permutation(V)[: V - 3]]  # three tokens stand for no bytes

Kind = Literal["tokens", "sets"]
Targets = TokenTargets | SetTargets


def make_targets(kind: Kind, num_N: int, seed: int) -> tuple[torch.Tensor, Targets]:
    """Actual next tokens, and targets with empty entries, abstaining positions that hold nonsense, and padding."""
    rng = np.random.default_rng(seed)
    next_ids = rng.integers(0, V, num_N)
    confidence, weight = rng.random(num_N), rng.random(num_N) > 0.2
    confidence[rng.random(num_N) < 0.2] = 0
    shared = (torch.from_numpy(confidence).float(), torch.from_numpy(weight).float())
    probs = rng.dirichlet(np.ones(K + 1), num_N)[:, :K].astype(np.float16).astype(np.float32)
    probs[rng.random(num_N) < 0.2] *= 1e-3
    empty = rng.random((num_N, K)) < 0.3
    if kind == "sets":
        ends = np.sort(rng.integers(0, len(SORTED_IDS) + 1, (2, num_N, K)), axis=0)
        low, high = ends[0], np.where(empty, ends[0], ends[1])
        probs[low == high] = 0
        return torch.from_numpy(next_ids), SetTargets(
            torch.from_numpy(low), torch.from_numpy(high), torch.from_numpy(probs), *shared
        )
    ids = np.stack([[y, *rng.permutation(np.delete(np.arange(V), y))[: K - 1]] for y in next_ids])
    empty[:, 0] = False
    ids[empty], probs[empty] = -1, 0
    ids[confidence == 0] = 5
    return torch.from_numpy(next_ids), TokenTargets(torch.from_numpy(ids), torch.from_numpy(probs), *shared)


def make_loss(
    kind: Kind,
    divergence: Divergence = "cross_entropy",
    temperature: float = 1.0,
    tail: Tail = "label",
    chunk: int = 8,
    bias: bool = False,
) -> ChunkedLoss:
    head = torch.nn.Linear(H, V, bias=bias)
    sorted_ids_O = np.array(SORTED_IDS, np.int32) if kind == "sets" else None
    return ChunkedLoss(head, divergence, temperature, tail, chunk, sorted_ids_O)


def assert_equals_dense(loss: ChunkedLoss, hidden: torch.Tensor, seed: int, clm_weight: float, scale: float) -> None:
    """Values, and gradients of `scale` times the loss."""
    next_ids, targets = make_targets("tokens" if loss.order_V is None else "sets", len(hidden), seed)
    hidden.requires_grad_()
    total, clm_N, fused_N = loss(hidden, next_ids, clm_weight, *targets)
    (total * scale).backward()
    inputs64 = [t.detach().double().requires_grad_() for t in (hidden, *loss.parameters())]
    logits = torch.nn.functional.linear(*inputs64)
    settings = loss._divergence, loss._temperature, loss._tail
    expected, clms, fuseds = dense_objective(logits, next_ids.tolist(), targets, clm_weight, *settings, SORTED_IDS)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(clm_N, clms, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fused_N, fuseds if clm_weight < 1 else np.zeros(len(hidden)), rtol=1e-4, atol=1e-5)
    references = torch.autograd.grad(expected * scale, inputs64)
    for tensor, reference in zip((hidden, *loss.parameters()), references, strict=True):
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad, reference, rtol=0, atol=1e-5 * max(float(reference.abs().max()), 1e-3))


@pytest.mark.parametrize("kind", ["tokens", "sets"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("tail", ["label", "bucket"])
@pytest.mark.parametrize("clm_weight", [0.0, 0.8, 1.0])
def test_value_and_gradients_equal_the_dense_reference(
    kind: Kind, divergence: Divergence, temperature: float, tail: Tail, clm_weight: float
) -> None:
    torch.manual_seed(0)
    loss = make_loss(kind, divergence, temperature, tail)
    assert_equals_dense(loss, torch.randn(N, H), seed=0, clm_weight=clm_weight, scale=1.0)


@given(
    st.sampled_from(["tokens", "sets"]), st.sampled_from(DIVERGENCES), st.sampled_from([0.7, 1.0, 2.0]),
    st.sampled_from(["label", "bucket"]), st.integers(1, 30), st.integers(1, 30), st.booleans(),
    st.sampled_from([0.1, 1.0, 5.0]), st.integers(0, 99),
)  # fmt: skip
def test_chunks_biases_and_spread_logits_change_nothing(
    kind: Kind, divergence: Divergence, temperature: float, tail: Tail, chunk: int, num_N: int, bias: bool,
    spread: float, seed: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    loss = make_loss(kind, divergence, temperature, tail, chunk, bias)
    assert_equals_dense(loss, spread * torch.randn(num_N, H), seed, clm_weight=0.5, scale=0.3)


@given(st.integers(0, 99), st.integers(1, V - 1))
def test_labels_teach_the_tail_as_often_as_it_comes_up(seed: int, num_named: int) -> None:
    """Over all texts that a distribution would write, no more and no less is learned than from all of it: from rows of
    the next token and the most probable others."""
    rng = np.random.default_rng(seed)
    probs_V = rng.dirichlet(np.ones(V))
    likely = np.argsort(-probs_V)
    assume(probs_V[likely[num_named]] >= 1e-3)
    rows = np.array([[y, *[i for i in likely if i != y][:num_named]] for y in range(V)])
    one_V, weight_V = torch.ones(V), torch.from_numpy(probs_V).float()
    targets = TokenTargets(torch.from_numpy(rows), weight_V[rows], one_V, weight_V)
    torch.manual_seed(seed)
    loss, hidden = make_loss("tokens"), torch.randn(1, H).requires_grad_()
    total, _, _ = loss(hidden.expand(V, H), torch.arange(V), 0.0, *targets)
    wanted = -(weight_V * loss.weight.matmul(hidden[0]).log_softmax(0)).sum()
    assert total.item() == pytest.approx(wanted.item(), rel=1e-4)
    found, expected = torch.autograd.grad(total, hidden), torch.autograd.grad(wanted, hidden)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("gap", [20.0, 60.0, 1000.0])
def test_a_student_that_knows_everything_named_stays_finite(divergence: Divergence, gap: float) -> None:
    """The rest of the vocabulary, or an interval, has hardly any mass or none that float32 can hold."""
    tokens = TokenTargets(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.2]]), torch.ones(1), torch.ones(1))
    low, high = torch.tensor([[0, 1, 1]]), torch.tensor([[1, 2, 1]])
    sets = SetTargets(low, high, torch.tensor([[0.5, 0.2, 0.0]]), torch.ones(1), torch.ones(1))
    cases = (None, tokens, "label"), (None, tokens, "bucket"), (np.array([0, 1, 2], np.int32), sets, "bucket")
    for sorted_ids_O, targets, tail in cases:
        head = torch.nn.Linear(2, 3, bias=False)
        head.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        hidden = torch.tensor([[gap, 0.0]], requires_grad=True)
        total, _, _ = ChunkedLoss(head, divergence, 1.0, tail, 8, sorted_ids_O)(
            hidden, torch.tensor([0]), 0.5, *targets
        )
        total.backward()
        assert torch.isfinite(total) and hidden.grad is not None and torch.isfinite(hidden.grad).all()


def test_little_mass_on_an_interval_is_told_precisely() -> None:
    """A student that believes in it by 1e-25 learns as much from cross-entropy as one that does by 1e-5."""
    head = torch.nn.Linear(1, 3, bias=False)
    head.weight.data = torch.tensor([[0.0], [-1.0], [0.0]])
    one = torch.ones(1)
    targets = SetTargets(torch.tensor([[1]]), torch.tensor([[2]]), one[:, None], one, one)
    loss = ChunkedLoss(head, "cross_entropy", 1.0, "bucket", 8, np.array([0, 1, 2], np.int32))
    hidden = torch.tensor([[25 * np.log(10.0)]], dtype=torch.float32, requires_grad=True)
    total, _, _ = loss(hidden, torch.tensor([0]), 0.0, *targets)
    total.backward()
    assert total.item() == pytest.approx(25 * np.log(10) + np.log(2), rel=1e-6)
    assert hidden.grad is not None and hidden.grad.item() == pytest.approx(1.0, rel=1e-6)


def test_only_the_position_that_is_not_finite_says_so() -> None:
    next_ids, targets = make_targets("tokens", N, 0)
    hidden = torch.randn(N, H)
    hidden[3] = torch.nan
    targets.weight_N[:] = 1
    _, clm_N, fused_N = make_loss("tokens")(hidden, next_ids, 0.8, *targets)
    assert (clm_N + fused_N).isfinite().logical_not().nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("kind", ["tokens", "sets"])
def test_an_empty_batch_teaches_nothing(kind: Kind) -> None:
    batch = empty_batch(intervals=kind == "sets")
    loss = make_loss(kind)
    total, _, _ = loss(torch.randn(1, H, requires_grad=True), batch.ids_BL[:, 1:].flatten(), 0.8, *batch.targets)
    total.backward()
    assert total.item() == 0 and batch.num_positions == 0
    assert loss.weight.grad is not None and loss.weight.grad.abs().max() == 0


@pytest.mark.parametrize("kind", ["tokens", "sets"])
def test_there_are_no_more_products_than_gradients_asked_for(kind: Kind) -> None:
    """One for the logits, one for each gradient; none in the backward pass."""
    next_ids, targets = make_targets(kind, N, 0)
    loss = make_loss(kind)
    totals, gradients = [], []
    for is_differentiated, is_head_trained, num_products in ((True, True, 3), (True, False, 2), (False, True, 1)):
        loss.requires_grad_(is_head_trained)
        hidden = torch.ones(N, H, requires_grad=is_differentiated)
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(is_differentiated):
            total, _, _ = loss(hidden, next_ids, 0.8, *targets)
            if is_differentiated:
                total.backward()
                gradients.append(hidden.grad)
        assert counter.get_total_flops() == num_products * 2 * N * H * V
        totals.append(total.item())
    assert totals[0] == totals[1] == totals[2]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("kind", ["tokens", "sets"])
def test_bfloat16_comes_close_to_float32_and_sums_precisely(kind: Kind) -> None:
    """The same rounded numbers: what is left are the products' rounding. 1,024 equal terms would stand still at 256."""
    repeats = 1024
    next_ids, targets = make_targets(kind, 1, 2)
    targets.confidence_N[:], targets.weight_N[:] = 1, 1
    next_ids, targets = next_ids.repeat(repeats), type(targets)(*(t.repeat_interleave(repeats, 0) for t in targets))
    loss = make_loss(kind, chunk=1).bfloat16()
    hidden = torch.randn(1, H).bfloat16().repeat(repeats, 1).requires_grad_()
    total, _, _ = loss(hidden, next_ids, 0.5, *targets)
    total.backward()
    reference = make_loss(kind, chunk=1024)
    reference.load_state_dict({name: tensor.float() for name, tensor in loss.state_dict().items()})
    hidden32 = hidden.detach().float().requires_grad_()
    expected, _, _ = reference(hidden32, next_ids, 0.5, *targets)
    expected.backward()
    assert total.dtype == torch.float32 and total.item() == pytest.approx(expected.item(), rel=0.02)
    for found, wanted in ((loss.weight.grad, reference.weight.grad), (hidden.grad, hidden32.grad)):
        assert found is not None and wanted is not None and found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.03 * float(wanted.abs().max()))


CASES: list[tuple[bool, Kind]] = [(True, "tokens"), (False, "sets")]
"""Whether embeddings are tied, and what is learned."""


def trained_in_all_ways() -> list[list[dict[str, torch.Tensor]]]:
    """By every process of a group, the weights of every case with whole and with sharded parameters."""
    import deepspeed

    # As in the package: compiling them would wait for ever for a process that was killed while it compiled.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed()
    return [[trained_weights(stage, tied, kind) for stage in (0, 3)] for tied, kind in CASES]


def trained_weights(stage: int, tied: bool, kind: Kind) -> dict[str, torch.Tensor]:
    """After two optimizer steps of two passes."""
    import deepspeed

    engine = start_engine(stage, tied, kind)
    for seed in range(torch.distributed.get_rank(), 8, 2):
        next_ids, targets = make_targets(kind, 12, seed)
        ids_BL = torch.nn.functional.pad(next_ids.view(3, 4), (1, 0))
        # Nothing is gathered yet, or still.
        assert all((parameter.numel() == 0) == (stage == 3) for parameter in engine.module.parameters())
        total, _, _ = engine(ids_BL, 0.5, *targets)
        engine.backward(total / 10)
        engine.step()
    parameters = list(engine.module.model.named_parameters())
    with deepspeed.zero.GatheredParameters([parameter for _, parameter in parameters], enabled=stage == 3):
        return {name: parameter.detach().clone() for name, parameter in parameters}


def start_engine(stage: int, tied: bool, kind: Kind) -> Any:
    """A tiny student in an engine that holds on to no parameter, however small."""
    import deepspeed

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V, hidden_size=H, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    sorted_ids_O = np.array(SORTED_IDS, np.int32) if kind == "sets" else None
    student = Student(LlamaForCausalLM(config), Training(positions_per_chunk=5), sorted_ids_O)
    settings = {
        "train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
        "optimizer": {"type": "AdamW", "params": {"lr": 0.01, "torch_adam": True}},
        "zero_allow_untested_optimizer": True,
    }
    engine, *_ = deepspeed.initialize(model=student, config=settings)
    return engine


def test_sharded_parameters_are_updated_as_whole_ones_are() -> None:
    weights, _ = in_processes(2, trained_in_all_ways)
    for (tied, _), (whole, sharded) in zip(CASES, weights, strict=True):
        assert whole.keys() == sharded.keys() and ("lm_head.weight" in whole) is not tied
        for name, expected in whole.items():
            torch.testing.assert_close(sharded[name], expected, rtol=1e-4, atol=1e-5, msg=name)
