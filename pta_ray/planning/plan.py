"""What each stage of a job needs and does, what sets the pace, and what the whole of it costs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, log2
from typing import Any

from pta_ray.config import Job, Training
from pta_ray.errors import JobError
from pta_ray.placement import Actors, Placement, check_fit, place
from pta_ray.planning.architecture import Architecture
from pta_ray.planning.configurations import Model
from pta_ray.planning.hardware import Cluster, Rates
from pta_ray.planning.memory import (
    VLLM_MEMORY_SHARE,
    Memory,
    alignment_memory,
    scoring_memory,
    trained_parameters,
    training_memory,
)
from pta_ray.planning.roofline import (
    ALIGNED_POSITIONS,
    READ_TOKENS,
    efficiency,
    scoring_work,
    seconds_per_token,
    training_work,
)
from pta_ray.planning.traffic import Traffic, stream_traffic, training_traffic

_BYTES_PER_TOKEN = 4.0  # of English text with a vocabulary of 32,000; longer by the logarithm of larger ones
_SPREAD_EFFICIENCY = 0.8  # of GPUs that one engine is spread over: they wait for each other


@dataclass(frozen=True)
class StagePlan:
    """One stage with its actors. Rates are in tokens of the target."""

    stage: str
    actors: int
    """With which it is planned."""
    most: int
    """To how many it may grow."""
    tokens_per_second: float
    """Of all of them."""
    enough: int
    """How many keep up with the training; of the training itself, as many as there are."""
    memory: Memory
    """Of one actor."""
    problems: tuple[str, ...]
    """Why an actor does not fit where it runs."""


@dataclass(frozen=True)
class Plan:
    """All of a job. Nothing of it was measured on the cluster that it is for."""

    models: list[Model]
    cluster: Cluster
    stages: list[StagePlan]
    problems: list[str]
    """Why the job does not fit; empty if it does."""
    bottleneck: str
    tokens_per_second: float
    """Of the whole stream."""
    traffic: Traffic
    tokens: float | None
    """Of the text, in tokens of the target, once through it; None if nobody knows."""
    hours: float | None
    gpu_hours: float | None
    cost: float | None
    on_gpu: bool

    def as_json(self) -> dict[str, Any]:
        """For scripts. Bytes, seconds, tokens of the target."""
        stages = [
            {
                "stage": stage.stage, "actors": stage.actors, "most": stage.most, "enough": stage.enough,
                "tokens_per_second": stage.tokens_per_second,
                "memory": {"device": dict(stage.memory.device), "host": dict(stage.memory.host)},
                "problems": list(stage.problems),
            }
            for stage in self.stages
        ]  # fmt: skip
        models = [
            {"name": m.name, "family": m.architecture.family, "parameters": m.architecture.parameters,
             "configuration": m.origin}
            for m in self.models
        ]  # fmt: skip
        return {
            "estimated": True, "cluster": self.cluster.what, "models": models, "stages": stages,
            "fits": not self.problems, "problems": self.problems, "bottleneck": self.bottleneck,
            "tokens_per_second": self.tokens_per_second, "traffic": asdict(self.traffic), "tokens": self.tokens,
            "hours": self.hours, "gpu_hours": self.gpu_hours, "cost": self.cost,
        }  # fmt: skip


def bytes_per_token(architecture: Architecture) -> float:
    """Of English text, roughly."""
    return _BYTES_PER_TOKEN * log2(architecture.vocabulary) / log2(32_000)


def _with_workers(settings: Training, count: int) -> Training:
    """The settings for so many workers."""
    return settings.model_copy(update={"workers": (count, count)})


def make_plan(
    job: Job, models: list[Model], cluster: Cluster, tokens: float | None, price: float | None, is_shared: bool
) -> Plan:
    """Plans a job on a cluster.

    Args:
        tokens: of the training text, in tokens of the target; None if nobody knows.
        price: of a GPU for an hour.
        is_shared: whether stages share the cores, as they do where Ray is started on one machine.
    """
    on_gpu = cluster.gpu is not None
    planner = _Planner(job, [model.architecture for model in models], cluster, on_gpu)
    least = place(job, on_gpu)
    problems = [] if is_shared else _room(least, cluster)
    placement = least if problems else _grown(least, planner, cluster, is_shared)
    share = min(cluster.hosts[0].cpus / placement.cpus, 1.0) if is_shared else 1.0
    of_train = planner.rate(placement.training, share)
    stages = [planner.stage(actors, of_train, share) for actors in placement.stages]
    problems += [f"{stage.stage}: {problem}" for stage in stages for problem in stage.problems]
    problems += _host_memory(stages, cluster)
    slowest = min(stages, key=lambda stage: stage.tokens_per_second)
    pace = slowest.tokens_per_second
    traffic = Traffic(
        *stream_traffic(job, planner.lengths),
        training_traffic(
            _with_workers(job.training, placement.training.count), planner.target, job.data.window_tokens, on_gpu
        ),
    )
    hours = _seconds(job, tokens, pace, of_train) / 3600 if tokens else None
    gpu_hours = hours * placement.gpus if hours is not None else None
    cost = gpu_hours * price if gpu_hours is not None and price is not None else None
    return Plan(models, cluster, stages, problems, slowest.stage, pace, traffic, tokens, hours, gpu_hours, cost, on_gpu)


def _seconds(job: Job, tokens: float, pace: float, of_train: float) -> float:
    """Of all epochs; with a cache the later ones are not scored again."""
    later = job.data.epochs - 1
    return tokens / pace + later * tokens / (of_train if job.data.cache else pace)


def _room(placement: Placement, cluster: Cluster) -> list[str]:
    try:
        check_fit(placement, cluster.resources)
    except JobError as error:
        return [str(error)]
    return []


def _grown(placement: Placement, planner: "_Planner", cluster: Cluster, is_shared: bool) -> Placement:
    """With more actors of whatever sets the pace, as long as it may have more and there is room."""
    while not is_shared:
        slowest = min(placement.stages, key=planner.rate)
        if slowest.count >= slowest.most:
            break
        more = _with_one_more(placement, slowest)
        if _room(more, cluster):
            break
        placement = more
    return placement


def _with_one_more(placement: Placement, actors: Actors) -> Placement:
    more = replace(actors, count=actors.count + 1)
    if actors == placement.training:
        return replace(placement, training=more)
    if actors == placement.alignment:
        return replace(placement, alignment=more)
    return replace(placement, scoring=[more if group == actors else group for group in placement.scoring])


def _host_memory(stages: Sequence[StagePlan], cluster: Cluster) -> list[str]:
    """Whether all processes together fit into the memory of all hosts."""
    needed = sum(stage.actors * stage.memory.host_bytes for stage in stages)
    there = sum(host.memory for host in cluster.hosts)
    if needed > there:
        return [
            f"all processes together need {needed / 1e9:.0f} GB of the hosts' memory, which is {there / 1e9:.0f} GB"
        ]
    return []


class _Planner:
    """What the stages of one job take and do on one cluster."""

    def __init__(self, job: Job, architectures: list[Architecture], cluster: Cluster, on_gpu: bool) -> None:
        self._job = job
        self._architectures = architectures
        self._cluster = cluster
        self._on_gpu = on_gpu
        self.target = architectures[0]
        self.lengths = [bytes_per_token(self.target) / bytes_per_token(a) for a in architectures]
        """Tokens of each model for a token of the target."""

    def rate(self, actors: Actors, share: float = 1.0) -> float:
        """Tokens of the target that all actors of a stage do in a second, with a share of their CPUs."""
        if actors.models:
            seconds = sum(self._scoring_seconds(actors, i, share) for i in actors.models)
            return actors.count / seconds
        if actors.stage == "train":
            return actors.count / self._training_seconds(actors, share)
        if actors.stage == "align":
            return share * actors.count * ALIGNED_POSITIONS[self._job.alignment.method] / len(self._job.sources)
        return share * actors.count * READ_TOKENS

    def stage(self, actors: Actors, pace: float, share: float) -> StagePlan:
        """With the number of actors that keeps up with a pace."""
        rate, memory = self.rate(actors, share), self._memory(actors)
        enough = actors.count if actors.stage == "train" else max(ceil(actors.count * pace / rate), 1)
        problems = self._problems(actors, memory)
        return StagePlan(actors.stage, actors.count, max(actors.most, actors.count), rate, enough, memory, problems)

    def _rates(self, actors: Actors, share: float) -> Rates:
        """Of all that one actor computes with."""
        gpu, cpu = self._cluster.gpu, self._cluster.hosts[0].cpu
        of_one, count = cpu, actors.cpus * share
        if self._of_gpu(actors) and gpu is not None:
            of_one, count = gpu.rates, _SPREAD_EFFICIENCY * actors.spread_gpus or actors.gpus
        return Rates(of_one.flops * count, of_one.bandwidth * count)

    def _of_gpu(self, actors: Actors) -> bool:
        return self._on_gpu and bool(actors.gpus or actors.spread_gpus)

    def _scoring_seconds(self, actors: Actors, i: int, share: float) -> float:
        model = self._job.models[i]
        if model.engine == "simulated":
            return self.lengths[i] / model.simulated.tokens_per_second
        on_gpu = self._of_gpu(actors)
        work = scoring_work(model, self._architectures[i], self._job.data.window_tokens, 2 if on_gpu else 4)
        stated = efficiency("score", on_gpu)
        return self.lengths[i] * seconds_per_token(work, self._rates(actors, share), stated)

    def _training_seconds(self, actors: Actors, share: float) -> float:
        """Of one worker, for a token."""
        job, on_gpu = self._job, self._of_gpu(actors)
        settings, tokens = _with_workers(job.training, actors.count), job.data.window_tokens
        trained = trained_parameters(settings, self.target)
        work = training_work(settings, self.target, tokens, 2 if on_gpu else 4, trained)
        computing = seconds_per_token(work, self._rates(actors, share), efficiency("train", on_gpu))
        return computing + training_traffic(settings, self.target, tokens, on_gpu) / self._link(actors)

    def _link(self, actors: Actors) -> float:
        """Bytes a second between training workers: of the network if one host has no room for all of them."""
        host = max(self._cluster.hosts, key=lambda host: (host.gpus, host.cpus))
        wanted, there = (actors.gpus, host.gpus) if self._of_gpu(actors) else (actors.cpus, host.cpus)
        if actors.count * wanted > there:
            return host.network
        return host.gpu.link if host.gpu and self._of_gpu(actors) else float("inf")

    def _memory(self, actors: Actors) -> Memory:
        job, tokens = self._job, self._job.data.window_tokens
        if actors.models:
            found = []
            for i in actors.models:
                longest = tokens if i == 0 else 2 * tokens
                found.append(scoring_memory(job.models[i], self._architectures[i], longest, self._of_gpu(actors)))
            return _in_turn(found)
        if actors.stage == "train":
            return training_memory(job.training, self.target, tokens, self._of_gpu(actors))
        return alignment_memory(self._architectures) if actors.stage == "align" else Memory({}, {"process": 0.5e9})

    def _problems(self, actors: Actors, memory: Memory) -> tuple[str, ...]:
        gpu = self._cluster.gpu
        if not self._of_gpu(actors) or gpu is None:
            return ()
        there = gpu.memory * min(1.0, actors.spread_gpus or actors.gpus)
        needed, problems = memory.device_bytes, []
        if needed > there:
            problems.append(f"needs {needed / 1e9:.1f} GB of a GPU's memory and has {there / 1e9:.1f}; {_mend(actors)}")
        elif actors.models and self._job.models[actors.models[0]].engine == "vllm":
            left, peak = (1 - VLLM_MEMORY_SHARE) * there, memory.device["log-probabilities"]
            if peak > left:
                problems.append(
                    f"log-probabilities take up to {peak / 1e9:.1f} GB, and vLLM leaves {left / 1e9:.1f} of its GPU; "
                    "lower max_batched_tokens"
                )
        return tuple(problems)


def _mend(actors: Actors) -> str:
    if actors.stage == "train":
        return "raise training.zero_stage or training.workers, or set offload_optimizer, gradient_checkpointing or lora"
    return "lower max_batched_tokens, give it more gpus, or spread it with tensor_parallel"


def _in_turn(found: Sequence[Memory]) -> Memory:
    """Of models that share a process and take turns: all their weights and caches, the largest of their passes."""
    passing = ("log-probabilities", "activations", "scratch", "process")
    together: list[dict[str, float]] = [{}, {}]
    for memory in found:
        for parts, added in zip(together, (memory.device, memory.host), strict=True):
            for name, amount in added.items():
                parts[name] = max(parts.get(name, 0.0), amount) if name in passing else parts.get(name, 0.0) + amount
    return Memory(*together)
