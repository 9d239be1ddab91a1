"""The arms of the experiment: what is compared with what. Everything that an arm does not name is as in `pta`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from jobs.experiments.models import BAD, SOURCES
from pta_ray.config import Alignment, Fusion, Training

Change = Literal[
    "second_softmax", "no_tail", "pairs_only", "actual_only", "corpus_counts", "certainty", "gate", "half_itself",
    "light_abstention", "flatten_own",
]  # fmt: skip

TRAINING = {"clm_weight": 0.5, "learning_rate": 1e-3, "warmup": 0.05, "batch_windows": 8}
"""Of all arms."""
UNFLATTENED = {"source_temperature": 1}
"""As other methods learn what sources say, and those that learn from none."""


@dataclass(frozen=True)
class Arm:
    """One way to learn from the sources."""

    alignment: Mapping[str, Any] = field(default_factory=dict)
    fusion: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = SOURCES
    change: Change | None = None
    """What the package does not offer: see `changes.py`, and for `light_abstention` `learning.py`."""
    beside: str = "pta"
    """The arm that has all but what is changed in this one."""

    def alignment_settings(self) -> Alignment:
        """As in a job file."""
        return Alignment.model_validate(self.alignment)

    def fusion_settings(self) -> Fusion:
        """As in a job file."""
        return Fusion.model_validate(self.fusion)

    def training_settings(self) -> Training:
        """As in a job file."""
        return Training.model_validate({**TRAINING, **self.training})

    def targets_settings(self) -> dict[str, Any]:
        """All that decides what is learned from, every default filled in, as JSON has it."""
        return {
            "alignment": self.alignment_settings().model_dump(mode="json"),
            "fusion": self.fusion_settings().model_dump(mode="json"),
            "sources": list(self.sources),
            "change": self.change,
        }

    def settings(self) -> dict[str, Any]:
        """All that decides a run."""
        return {**self.targets_settings(), "training": self.training_settings().model_dump(mode="json")}


MAIN = {
    "clm": Arm(training={"clm_weight": 1, **UNFLATTENED}, sources=()),
    "itself only": Arm(training=UNFLATTENED, sources=()),
    "exact": Arm({"method": "exact"}, training=UNFLATTENED),
    "mined": Arm({"method": "mined"}, training=UNFLATTENED),
    "pta-paper": Arm({"method": "pta-paper"}, training=UNFLATTENED),
    "pta": Arm(),
    "unflattened": Arm(training=UNFLATTENED),
    "unflattened, weight=0.8": Arm(training={"clm_weight": 0.8, **UNFLATTENED}),
    "exact, flattened": Arm({"method": "exact"}),
    "mined, flattened": Arm({"method": "mined"}),
}
"""Compared in all regimes. `itself only` has no source, only what the target believed before: what fusing is worth less
that is worth is what the sources know. The last four part what flattening is worth from what alignment is."""

ONE_CHANGE = {
    "k=5": Arm({"top_k": 5}),
    "k=20": Arm({"top_k": 20}),
    "k=64": Arm({"top_k": 64}),
    "exact, k=64": Arm({"method": "exact", "top_k": 64}, training=UNFLATTENED, beside="exact"),
    "mined, k=64": Arm({"method": "mined", "top_k": 64}, training=UNFLATTENED, beside="mined"),
    "weight=0.2": Arm(training={"clm_weight": 0.2}),
    "weight=0.8": Arm(training={"clm_weight": 0.8}),
    "weight=0.9": Arm(training={"clm_weight": 0.9}),
    "mined, weight=0.8": Arm({"method": "mined"}, training={"clm_weight": 0.8, **UNFLATTENED}, beside="mined"),
    "itself only, weight=0.8": Arm(training={"clm_weight": 0.8, **UNFLATTENED}, sources=(), beside="itself only"),
    "avg_ce": Arm(fusion={"choice": "avg_ce"}),
    "position": Arm(fusion={"choice": "position"}),
    "1 source": Arm(sources=SOURCES[:1]),
    "2 sources": Arm(sources=SOURCES[:2]),
    "only smollm2": Arm(sources=SOURCES[2:]),
    "cost=prefix": Arm({"cost": "prefix"}),
    "cost=edit": Arm({"cost": "edit"}),
    "tail=bucket": Arm(training={"tail": "bucket"}),
    "tail dropped": Arm(training={"tail": "bucket"}, change="no_tail"),
    "abstaining counts less": Arm(change="light_abstention"),
    "these three": Arm({"cost": "prefix"}, training={"tail": "bucket"}, change="light_abstention"),
    "1-1 pairs only": Arm(change="pairs_only"),
    "rho=0.01": Arm({"rho": 0.01}),
    "rho=0.5": Arm({"rho": 0.5}),
    "epsilon=0.005": Arm({"epsilon": 0.005}),
    "epsilon=0.1": Arm({"epsilon": 0.1}),
    "second softmax": Arm(training={"tail": "bucket", **UNFLATTENED}, change="second_softmax", beside="unflattened"),
    "second softmax, pta-paper": Arm(
        {"method": "pta-paper"}, training={"tail": "bucket", **UNFLATTENED}, change="second_softmax", beside="pta-paper"
    ),
}
"""One thing at a time, with scarce text; `these three` are the prefix cost, the bucket and light abstention. A second
softmax flattens, and leaves no tail that the label could be learned in the place of."""

IDEAS = {
    "intervals": Arm({"targets": "intervals"}, training=UNFLATTENED, beside="unflattened"),
    "actual token only": Arm(training={"tail": "bucket", **UNFLATTENED}, change="actual_only", beside="unflattened"),
    "shared by counts": Arm(change="corpus_counts"),
    "weighted by certainty": Arm(change="certainty"),
    "gated": Arm(change="gate"),
    "half itself": Arm(change="half_itself"),
    "weight 0.2 to 0.8": Arm(training={"clm_weight": {"start": 0.2, "end": 0.8}}),
    "reverse KL": Arm(training={"divergence": "reverse_kl"}),
    "temperature 2 of both": Arm(training={"temperature": 2, **UNFLATTENED}, beside="unflattened"),
    "itself only, flattened": Arm(sources=(), change="flatten_own", beside="itself only"),
    "flattened from 4": Arm(training={"source_temperature": {"start": 4, "end": 1}}),
    "flattened from 16": Arm(training={"source_temperature": {"start": 16, "end": 1}}),
    "flattened to the end": Arm(training={"source_temperature": 8}),
}
"""What might improve the method. The actual token and a bucket of all others is approximate likelihood matching
(Minixhofer et al. 2025) with the target's tokens for chunks; with the label for a tail it would be plain CLM."""

ROBUSTNESS = {
    "bad source alone": Arm(sources=(BAD,)),
    "bad source added": Arm(sources=(*SOURCES, BAD)),
    "bad source added, position": Arm(fusion={"choice": "position"}, sources=(*SOURCES, BAD), beside="position"),
    "bad source added, avg_ce": Arm(fusion={"choice": "avg_ce"}, sources=(*SOURCES, BAD), beside="avg_ce"),
    "bad source alone, position": Arm(fusion={"choice": "position"}, sources=(BAD,)),
    "bad source alone, avg_ce": Arm(fusion={"choice": "avg_ce"}, sources=(BAD,)),
    "bad source alone, gated": Arm(sources=(BAD,), change="gate"),
}
"""A source that is worse than the target everywhere."""

RATES = {
    f"{name}, rate {rate:g}": replace(MAIN[name], training={**MAIN[name].training, "learning_rate": rate}, beside=name)
    for name in ("clm", "pta")
    for rate in (3e-4, 3e-3)
}
"""Whether another learning rate would have been better for one arm than for the other."""

ARMS = {**MAIN, **ONE_CHANGE, **IDEAS, **ROBUSTNESS, **RATES}


@dataclass(frozen=True)
class Regime:
    """How much text there is. All arms have the same tokens and steps in it."""

    share: float
    """Of the windows of each domain: those of some documents, chosen by the seed."""
    epochs: int


REGIMES = {"plenty": Regime(1, 1), "scarce": Regime(1 / 4, 4), "long": Regime(1, 4)}
"""In all, the order is the seed's. Plenty and scarce have the same number of steps, nearly."""
