"""A DeepSpeed engine from the job's settings.

A step whose gradient is not finite is never applied, at no stage and in no precision: DeepSpeed then sets its gradients
aside, `engine.was_step_applied()` is False and `engine.get_global_grad_norm()` infinite.
"""

import math
from typing import Any

import torch

from pta_ray.config import Training


def start_engine(student: torch.nn.Module, settings: Training, num_passes: int, use_cuda: bool) -> Any:
    """Wraps the student on every worker; needs an initialized process group.

    Args:
        student: its weights on the CPU, the same on every worker; those that do not require a gradient stay as they
            are and get no optimizer state.
        num_passes: micro-batches of each worker per optimizer step.
    """
    import deepspeed

    # Shared-memory collectives, for inference only. They would be compiled, for a minute, behind a lock that a process
    # which is killed meanwhile leaves for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed()  # takes over the group; `_partition` would not know it otherwise
    config = deepspeed_config(settings, num_passes, torch.distributed.get_world_size(), use_cuda)
    if settings.zero_stage == 3:
        _partition(student, config)
    trainable = [parameter for parameter in student.parameters() if parameter.requires_grad]
    engine, *_ = deepspeed.initialize(model=student, model_parameters=trainable, config=config)
    if not engine.zero_optimization_stage():
        engine.optimizer.register_step_pre_hook(_clip_or_skip(settings.gradient_clipping))
    return engine


def deepspeed_config(settings: Training, num_passes: int, world_size: int, use_cuda: bool) -> dict[str, Any]:
    """The job's settings in DeepSpeed's words. Batches are dealt by the caller, so their sizes are nominal."""
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and use_cuda)
    # DeepSpeed adds up the gradients of several passes in float32 from stage 1 on only.
    stage = max(settings.zero_stage, 1) if bf16 else settings.zero_stage
    zero: dict[str, Any] = {"stage": stage}
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": use_cuda}
    if settings.offload_parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": use_cuda}
    return {
        "train_batch_size": world_size * num_passes,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": num_passes,
        # Without ZeRO, `_clip_or_skip` clips.
        "gradient_clipping": settings.gradient_clipping if stage else 0.0,
        "zero_optimization": zero,
        "bf16": {"enabled": bf16, "check_grad_overflow": True},
        "data_types": {"grad_accum_dtype": "fp32"},
        "optimizer": {"type": "AdamW", "params": _adam(settings, use_cuda)},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 30,
    }


def _adam(settings: Training, use_cuda: bool) -> dict[str, Any]:
    """PyTorch's AdamW, which needs no compiler; DeepSpeed's own where the state of a GPU's weights lies in the host's
    memory."""
    params = {"lr": settings.learning_rate, "betas": settings.betas, "weight_decay": settings.weight_decay}
    if use_cuda and settings.offload_optimizer:
        return params
    return {**params, "torch_adam": True, "fused": True}


def _partition(student: torch.nn.Module, config: dict[str, Any]) -> None:
    """Shares the weights out over the workers, one parameter after another, so that no device holds them all."""
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    if config["bf16"]["enabled"]:
        for parameter in student.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
    deepspeed.zero.Init(module=student, config_dict_or_path=config)
    for buffer in student.buffers():
        buffer.data = buffer.data.to(get_accelerator().current_device_name())


def _clip_or_skip(max_norm: float) -> Any:
    """For a plain optimizer, a hook before its step that does what DeepSpeed's own optimizers do: it clips the gradient
    and leaves out a step whose gradient is not finite. The engine reads the two attributes."""

    def hook(optimizer: Any, *_: Any) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
        optimizer.overflow = not math.isfinite(norm)
        optimizer._global_grad_norm = math.inf if optimizer.overflow else norm
        if optimizer.overflow:
            optimizer.zero_grad(set_to_none=True)  # AdamW passes over what has no gradient

    return hook
