"""A plan, for the terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from pta_ray.planning.plan import Plan, StagePlan

_ESTIMATED = "estimated"


def print_plan(plan: Plan, console: Console) -> None:
    """All of it, the verdict last."""
    console.print(f"cluster: {plan.cluster.what}", highlight=False, markup=False, soft_wrap=True)
    for table in (models_table(plan), memory_table(plan), speed_table(plan), totals_table(plan)):
        console.print(table)
    for problem in plan.problems:
        console.print(f"does not fit: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)
    if not plan.problems:
        console.print("fits", style="green")


def models_table(plan: Plan) -> Table:
    """What is known of the models."""
    table = Table(title="models", title_justify="left")
    table.add_column("model")
    table.add_column("architecture")
    table.add_column("parameters", justify="right")
    table.add_column("configuration from")
    for model in plan.models:
        table.add_row(model.name, model.architecture.family, f"{model.architecture.parameters:,}", model.origin)
    return table


def memory_table(plan: Plan) -> Table:
    """Of one actor of each stage, by what takes it."""
    table = Table(title=f"memory of one actor, GB ({_ESTIMATED})", title_justify="left")
    table.add_column("stage", overflow="fold")
    if plan.on_gpu:
        table.add_column("GPU", justify="right")
    table.add_column("host", justify="right")
    table.add_column("what takes it", overflow="fold")
    for stage in plan.stages:
        of_gpu = [_gb(stage.memory.device_bytes)] if plan.on_gpu else []
        parts = _parts({**stage.memory.device, **stage.memory.host})
        table.add_row(stage.stage, *of_gpu, _gb(stage.memory.host_bytes), parts)
    return table


def speed_table(plan: Plan) -> Table:
    """What each stage does, and with how many actors it would keep up with the training."""
    table = Table(title=f"tokens of the target a second ({_ESTIMATED})", title_justify="left")
    table.add_column("stage", overflow="fold")
    for heading in ("actors", "tokens/s", "actors that keep up with training"):
        table.add_column(heading, justify="right")
    for stage in plan.stages:
        style = "bold" if stage.stage == plan.bottleneck else None
        table.add_row(stage.stage, _actors(stage), f"{stage.tokens_per_second:,.0f}", str(stage.enough), style=style)
    table.caption = f"limited by {plan.bottleneck}: {plan.tokens_per_second:,.0f} tokens/s"
    return table


def totals_table(plan: Plan) -> Table:
    """Traffic, hours and cost."""
    traffic, pace = plan.traffic, plan.tokens_per_second
    table = Table(title=f"in all ({_ESTIMATED})", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("object store, bytes per token", f"{traffic.object_store:,.0f}")
    table.add_row("object store, MB/s", f"{traffic.object_store * pace / 1e6:,.1f}")
    table.add_row("of that to training, MB/s", f"{traffic.to_training * pace / 1e6:,.1f}")
    table.add_row("each training worker sends, bytes per token that it learns from", f"{traffic.between_workers:,.0f}")
    if plan.tokens is None or plan.hours is None:
        table.add_row("tokens of the text", "unknown: give --tokens")
        return table
    table.add_row("tokens of the text, once", f"{plan.tokens:,.0f}")
    table.add_row("hours", f"{plan.hours:,.2f}")
    if plan.on_gpu and plan.gpu_hours is not None:
        table.add_row("GPU hours", f"{plan.gpu_hours:,.1f}")
        table.add_row("cost", "give --price" if plan.cost is None else f"{plan.cost:,.2f}")
    return table


def _actors(stage: StagePlan) -> str:
    return f"{stage.actors} (at most {stage.most})" if stage.most > stage.actors else str(stage.actors)


def _parts(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_gb(amount)}" for name, amount in parts.items() if amount)


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f}"
