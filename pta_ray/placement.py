"""What runs where: the actors of a job and the resources that each reserves."""

from dataclasses import dataclass

from pta_ray.config import Job
from pta_ray.errors import JobError

_READING_CPUS = 0.5  # not what scoring asks for: Ray Data would fuse the two and read inside the GPU actors


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

    @property
    def how_many(self) -> str:
        """For people."""
        return f"{self.count} to {self.most}" if self.most > self.count else str(self.count)


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
    def cpus(self) -> float:
        """That all stages together reserve."""
        return sum(actors.count * actors.cpus for actors in self.stages)

    @property
    def most_cpus(self) -> float:
        """That all stages together reserve when they have grown as far as they may."""
        return sum(max(actors.count, actors.most) * actors.cpus for actors in self.stages)

    @property
    def gpus(self) -> float:
        """That all stages together reserve."""
        return sum(actors.count * actors.gpus for actors in self.stages)


def place(job: Job, has_gpus: bool) -> Placement:
    """What every stage reserves: one CPU an actor, and a GPU for models and training workers where there are any,
    unless the job file says otherwise."""
    one_gpu = 1.0 if has_gpus else 0.0
    training = job.training
    scoring = [
        Actors(
            f"score {m.name}",
            m.replicas,
            m.cpus or 1.0,
            one_gpu if m.gpus is None else m.gpus,
            f"{m.engine}: {m.model}",
        )
        for m in job.models
    ]
    return Placement(
        Actors("read", 1, _READING_CPUS, 0.0, "windows of the training text"),
        scoring,
        Actors("align", 1, 1.0, 0.0, "token alignment, MinCE fold"),
        Actors(
            "train", training.workers[0], training.cpus or 1.0, one_gpu if training.gpus is None else training.gpus,
            f"DeepSpeed ZeRO-{training.zero_stage}", most=training.workers[1],
        ),
    )  # fmt: skip


def check_fit(placement: Placement, num_cpus: float, num_gpus: float) -> None:
    """Refuses a job whose stages cannot all run at the same time on a cluster.

    Raises:
        JobError: with the numbers and the fields to lower.
    """
    for kind, needed, there in (("cpus", placement.cpus, num_cpus), ("gpus", placement.gpus, num_gpus)):
        if needed > there:
            mend = f"lower {kind} of target, sources or training, their replicas, or training.workers"
            raise JobError(kind, f"all stages together need {needed:g} and the cluster has {there:g}; {mend}")
