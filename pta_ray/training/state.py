"""The training state of an engine as full float32 tensors by name, whatever its ZeRO stage and number of workers.

The names are `model/<parameter>`, `exp_avg/<parameter>` and `exp_avg_sq/<parameter>`, with the parameter's name in
`engine.module`. Only parameters that are trained have a state: of a LoRA run, the adapters.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist

Tensor = torch.Tensor
MODEL = "model"
MOMENTS = ("exp_avg", "exp_avg_sq")
KINDS = (MODEL, *MOMENTS)


def read_state(engine: Any) -> Iterator[tuple[str, Tensor]]:
    """This worker's share of the state, on the CPU; about as many bytes as every other worker's.

    All workers iterate, to the end: each tensor is gathered by all of them. A device holds one full tensor at a time.
    """
    _create_moments(engine)
    parameters = trained_parameters(engine)
    sizes = {
        f"{kind}/{name}": getattr(parameter, "ds_numel", parameter.numel())
        for kind in KINDS
        for name, parameter in parameters
    }
    owners = share_out(sizes, dist.get_world_size())
    for kind in KINDS:
        for name, parameter in parameters:
            tensor = _full(engine, parameter, kind)
            if owners[f"{kind}/{name}"] == dist.get_rank():
                yield f"{kind}/{name}", tensor.detach().to("cpu", torch.float32, copy=True)


def read_weights(engine: Any) -> Iterator[tuple[str, Tensor]]:
    """All trained weights in float32, on the engine's device; all workers iterate, to the end, and get every tensor."""
    for name, parameter in trained_parameters(engine):
        yield name, _full(engine, parameter, MODEL).detach()


def write_state(engine: Any, tensors: Iterable[tuple[str, Tensor]], num_steps: int) -> None:
    """Continues from a state that `read_state` gave, in any engine of the same model.

    All workers call it with all tensors in the same order. The weights that the model computes with are rounded from
    the float32 ones.

    Args:
        num_steps: optimizer steps that the state has seen, for Adam's bias correction.

    Raises:
        ValueError: a name is missing or unknown, or a shape is another one than the parameter's.
    """
    _create_moments(engine)
    parameters = dict(trained_parameters(engine))
    missing = {f"{kind}/{name}" for kind in KINDS for name in parameters}
    for name, tensor in tensors:
        if name not in missing:
            raise ValueError(f"{name} is not part of this training, or comes twice")
        missing.remove(name)
        kind, _, parameter_name = name.partition("/")
        parameter = parameters[parameter_name]
        shape = getattr(parameter, "ds_shape", parameter.shape)
        if tensor.shape != shape:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(shape)}")
        _set_full(engine, parameter, kind, tensor.to(torch.float32))
    if missing:
        raise ValueError(f"the state lacks {', '.join(sorted(missing))}")
    if hasattr(engine.optimizer, "update_lp_params"):
        engine.optimizer.update_lp_params()
    for state in engine.basic_optimizer.state.values():
        state["step"] = _step_like(state["step"], num_steps)


def trained_parameters(engine: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Those that require a gradient; tied ones once."""
    return [(name, parameter) for name, parameter in engine.module.named_parameters() if parameter.requires_grad]


def share_out(sizes: dict[str, int], num_workers: int) -> dict[str, int]:
    """The worker that each tensor falls to: the largest first, each to the one with the least so far."""
    shares, owners = [0] * num_workers, {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        owners[name] = shares.index(min(shares))
        shares[owners[name]] += sizes[name]
    return owners


def _full(engine: Any, parameter: Any, kind: str) -> Tensor:
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    if not engine.zero_optimization_stage():
        return parameter if kind == MODEL else engine.optimizer.state[parameter][kind]  # type: ignore[no-any-return]
    if kind == MODEL:
        return safe_get_full_fp32_param(parameter)  # type: ignore[no-any-return]
    return safe_get_full_optimizer_state(parameter, kind)  # type: ignore[no-any-return]


def _set_full(engine: Any, parameter: Any, kind: str, value: Tensor) -> None:
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    stage = engine.zero_optimization_stage()
    if not stage:
        _full(engine, parameter, kind).data.copy_(value)
    elif stage == 3:
        _set_shard(parameter, kind, value)
    elif kind == MODEL:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, kind)


def _set_shard(parameter: Any, kind: str, value: Tensor) -> None:
    """Sets this worker's part at stage 3. (The API for full tensors refuses a size that the workers do not divide.)"""
    import deepspeed
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    size, world_size = parameter.ds_tensor.numel(), dist.get_world_size()
    padded = torch.nn.functional.pad(value.flatten(), (0, size * world_size - value.numel()))
    shard = padded[size * dist.get_rank() :][:size]
    if kind != MODEL:
        safe_set_local_optimizer_state(parameter, shard, kind)
        return
    safe_set_local_fp32_param(parameter, shard)
    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        parameter.data.copy_(value)


def _create_moments(engine: Any) -> None:
    """Gives the optimizer the state that it otherwise makes at its first step.

    Stages 1 and 2 keep, in each parameter group, this worker's part of the weights as one flat tensor; stage 3 has
    several of them, outside the groups.
    """
    optimizer, base = engine.optimizer, engine.basic_optimizer
    flats = getattr(optimizer, "fp32_partitioned_groups_flat", None)
    for weights in flats or [tensor for group in base.param_groups for tensor in group["params"]]:
        if not base.state[weights]:
            moments = {kind: torch.zeros_like(weights, requires_grad=False) for kind in MOMENTS}
            step = torch.zeros((), device=weights.device) if isinstance(base, torch.optim.AdamW) else 0
            base.state[weights] = {"step": step, **moments}
    if engine.zero_optimization_stage() in (1, 2):
        optimizer._lazy_init_hp_params_optimizer_state()  # else done after the first step only


def _step_like(step: Tensor | int, num_steps: int) -> Tensor | int:
    return torch.full_like(step, num_steps) if isinstance(step, torch.Tensor) else num_steps
