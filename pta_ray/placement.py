"""What runs where: the actors of a job and the resources that each reserves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from pta_ray.config import Job, ServedModel
from pta_ray.errors import JobError

TRAINING_RESOURCE = "train"
"""Where hosts have it, training workers take one unit each, and no other host."""
NOT_ON_TRAINING_HOSTS = {"pta-ray/stage": "!train"}
"""The label selector of all other stages: hosts that are labelled so have room for the training alone."""

_READING_CPUS = 1.0  # what Ray Data reserves for cutting blocks anew, so that both are done by the same task
_MODELS_PER_ACTOR = 8  # without GPUs
_ROUNDING = 1e-6  # of sums of fractions

Resources = Mapping[str, float]
"""`CPU` and `GPU`, of one host, or as one process wants them."""


@dataclass(frozen=True)
class Actors:
    """The actors of one stage."""

    stage: str
    count: int
    cpus: float
    """Of one actor."""
    gpus: float
    what: str
    most: int = 0
    """To how many it may grow while the job runs; 0 for those that stay as many as they are."""
    spread_gpus: int = 0
    """GPUs of one actor's engine that is spread over several, in a placement group of its own."""
    models: tuple[int, ...] = ()
    """The places in `Job.models` of those that one actor scores with, in turn."""

    @property
    def how_many(self) -> str:
        """For people."""
        return f"{self.count} to {self.most}" if self.most > self.count else str(self.count)

    @property
    def parts(self) -> list[Resources]:
        """What one actor reserves, each part of it on one host."""
        return [{"CPU": self.cpus, "GPU": self.gpus}, *([{"CPU": 0.0, "GPU": 1.0}] * self.spread_gpus)]


@dataclass(frozen=True)
class Placement:
    """All stages of a job, in the order of the stream."""

    reading: Actors
    scoring: list[Actors]
    alignment: Actors
    training: Actors

    @property
    def stages(self) -> list[Actors]:
        """Every stage that has actors, in the order of the stream."""
        return [a for a in (self.reading, *self.scoring, self.alignment, self.training) if a.count]

    @property
    def parts(self) -> list[Resources]:
        """What all stages together reserve, each part of it on one host."""
        return [part for actors in self.stages for part in actors.parts * actors.count]

    @property
    def cpus(self) -> float:
        """That all stages together reserve."""
        return sum(part["CPU"] for part in self.parts)

    @property
    def gpus(self) -> float:
        """That all stages together reserve."""
        return sum(part["GPU"] for part in self.parts)

    @property
    def local_cpus(self) -> float:
        """What Ray is told of on a machine of its own, where the stages share the cores: all that they reserve, with as
        many training workers as there may be."""
        return self.cpus + max(self.training.most - self.training.count, 0) * self.training.cpus


def place(job: Job, has_gpus: bool) -> Placement:
    """What every stage reserves: one CPU for a model or a worker, and a GPU for models and training workers where there
    are any, unless the job file says otherwise."""
    training = job.training
    return Placement(
        Actors("read", 1, _READING_CPUS, 0.0, "windows of the training text"),
        [_scoring(job.models, shared, has_gpus) for shared in _groups(job.models, has_gpus)],
        Actors(
            "align", job.alignment.replicas[0], 1.0, 0.0, "token alignment and fusion", most=job.alignment.replicas[1]
        ),
        Actors(
            "train", training.workers[0], training.cpus or 1.0,
            _gpus(training.gpus, has_gpus), f"DeepSpeed ZeRO-{training.zero_stage}", most=training.workers[1],
        ),
    )  # fmt: skip


def place_evaluation(models: Sequence[ServedModel], has_gpus: bool) -> Placement:
    """What every stage of a comparison of models reserves; nothing is trained."""
    nothing = Actors("none", 0, 0.0, 0.0, "")
    return Placement(
        Actors("read", 1, _READING_CPUS, 0.0, "windows of the text"),
        [_scoring(models, shared, has_gpus) for shared in _groups(models, has_gpus)],
        Actors("count bits", 1, 1.0, 0.0, "of every window under every model"),
        nothing,
    )


def in_passes(placement: Placement, hosts: Sequence[Resources]) -> list[Placement]:
    """Deals the scoring actors out to as many streams, one after the other, as the hosts make necessary.

    Raises:
        JobError: there is no room for one group of models alone.
    """
    passes: list[Placement] = []
    for group in placement.scoring:
        alone = replace(placement, scoring=[group])
        together = replace(alone, scoring=[*passes[-1].scoring, group]) if passes else alone
        if passes and _has_room(together, hosts):
            passes[-1] = together
        elif _has_room(alone, hosts):
            passes.append(alone)
        else:
            needed = f"{alone.cpus:g} CPUs and {alone.gpus:g} GPUs, those for reading and counting included"
            raise JobError("MODEL", f"the cluster has no room to {group.stage}, which needs {needed}")
    return passes


def _has_room(placement: Placement, hosts: Sequence[Resources]) -> bool:
    """Whether all stages can run at the same time."""
    try:
        check_fit(placement, hosts)
    except JobError:
        return False
    return True


def _groups(models: Sequence[ServedModel], has_gpus: bool) -> Iterator[tuple[int, ...]]:
    """Models that reserve the same are scored by the same actors, in turn: as many as fill a GPU, or eight on CPUs.

    A stage costs Ray Data some 25 ms for each block that passes it, and an actor hundreds of megabytes before it holds
    anything: too much for each of many small models, and little for one that fills a GPU.
    """
    classes: dict[tuple[object, ...], list[int]] = {}
    for i, model in enumerate(models):
        classes.setdefault((model.engine, model.cpus, model.gpus, model.num_gpus_spread, model.replicas), []).append(i)
    for alike in classes.values():
        first = models[alike[0]]
        gpus = first.num_gpus_spread if first.num_gpus_spread > 1 else _gpus(first.gpus, has_gpus)
        fits, rest = max(int(1 / gpus + _ROUNDING), 1) if gpus else _MODELS_PER_ACTOR, iter(alike)
        while shared := tuple(islice(rest, fits)):
            yield shared


def _scoring(models: Sequence[ServedModel], shared: tuple[int, ...], has_gpus: bool) -> Actors:
    """The actors of one group: they reserve what its models reserve together."""
    members = [models[i] for i in shared]
    first, num = members[0], len(members)
    is_spread = first.num_gpus_spread > 1
    return Actors(
        stage=f"score {', '.join(model.name for model in members)}",
        count=first.replicas[0],
        cpus=num * (first.cpus or 1.0),
        gpus=0.0 if is_spread else num * _gpus(first.gpus, has_gpus),
        what=f"{first.engine}: {', '.join(model.model for model in members)}",
        most=first.replicas[1],
        spread_gpus=first.num_gpus_spread if is_spread else 0,
        models=shared,
    )


def _gpus(asked: float | None, has_gpus: bool) -> float:
    return float(has_gpus) if asked is None else asked


def check_fit(placement: Placement, hosts: Sequence[Resources]) -> None:
    """Refuses a job whose stages cannot all run at the same time on the hosts of a cluster, with as few actors and
    workers as each may have.

    Raises:
        JobError: with the numbers and the fields to lower.
    """
    mend = "lower cpus or gpus of target, sources or training, their replicas, or training.workers"
    for kind, needed in (("CPU", placement.cpus), ("GPU", placement.gpus)):
        there = sum(host.get(kind, 0.0) for host in hosts)
        if needed > there + _ROUNDING:
            problem = f"all stages together need {needed:g} and the cluster has {there:g}"
            raise JobError(f"{kind.lower()}s", f"{problem}; {mend}")
    free = [dict(host) for host in hosts]
    # The largest first, each on the fullest host that has room for it: Ray, which places them as they come, does no
    # better where this finds no room.
    for part in sorted(placement.parts, key=lambda p: (p["GPU"], p["CPU"]), reverse=True):
        room = [host for host in free if all(host.get(kind, 0.0) + _ROUNDING >= part[kind] for kind in part)]
        if not room:
            wanted = " and ".join(f"{amount:g} {kind}s" for kind, amount in part.items() if amount)
            left = ", ".join(f"{host.get('CPU', 0):g} CPUs and {host.get('GPU', 0):g} GPUs" for host in free)
            raise JobError("cpus", f"no host has {wanted} left for one more actor (left: {left}); {mend}")
        fullest = min(room, key=lambda host: (host.get("GPU", 0.0), host.get("CPU", 0.0)))
        for kind, amount in part.items():
            fullest[kind] = fullest.get(kind, 0.0) - amount
