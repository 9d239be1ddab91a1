"""How far a training has come: what rank 0 knows, and what a checkpoint keeps of it besides tensors."""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import pyarrow as pa

from pta_ray.ledger import Ledger
from pta_ray.training.validation import Best


@dataclass
class Progress:
    """Everything that is counted once however often a run is interrupted."""

    step: int = 0
    """Optimizer steps taken."""
    share: float = 0.0
    """Of the run's text that was learned from."""
    ledger: Ledger = field(default_factory=Ledger)
    """The windows that were learned from, or set aside."""
    losses: list[tuple[int, float]] = field(default_factory=list)
    """Mean objective per position, by step."""
    learning_rates: list[tuple[int, float]] = field(default_factory=list)
    """By step."""
    won: Counter[str] = field(default_factory=Counter)
    """Windows learned from, by `won/<domain>/<winner>`."""
    set_aside: list[str] = field(default_factory=list)
    """Windows whose targets or loss were not finite."""
    validations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Bits per byte by domain, by step."""
    best: Best = field(default_factory=Best)
    num_positions: int = 0
    """That were learned from."""
    num_padding: int = 0
    """Positions that were computed beside them."""
    num_skipped: int = 0
    """Steps without an update, because the gradient was not finite."""
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    """Tells the run from others of the same name."""

    def learn(self, rows: pa.Table, set_aside: Sequence[str]) -> None:
        """Enters the rows of a step, of which some were set aside, here or before they came."""
        columns = [rows.column(name).to_numpy() for name in ("task", "row", "ends_task")]
        self.ledger.add(*columns)
        names = zip(*(rows.column(name).to_pylist() for name in ("window_id", "domain", "winner")), strict=True)
        self.won.update(
            f"won/{domain}/{winner}" for window, domain, winner in names if winner and window not in set_aside
        )

    @property
    def validated_step(self) -> int:
        """The step of the latest validation, 0 before the first."""
        return self.validations[-1][0] if self.validations else 0

    @property
    def padding_share(self) -> float:
        """Of the positions that were computed."""
        return self.num_padding / max(self.num_padding + self.num_positions, 1)

    def summary(self) -> dict[str, Any]:
        """For metrics.json."""
        return {
            "steps": self.step,
            "best_step": self.best.step if self.validations else None,
            "num_windows": self.ledger.num_windows,
            "num_skipped": self.num_skipped,
            "set_aside": self.set_aside,
            "padding_share": self.padding_share,
            "losses": self.losses,
            "learning_rates": self.learning_rates,
            "validations": self.validations,
        }

    def to_json(self) -> dict[str, Any]:
        """All but the ledger, which is a file of its own."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "ledger"}
        return {**kept, "best": asdict(self.best)}

    @classmethod
    def from_json(cls, kept: dict[str, Any], ledger: Ledger) -> "Progress":
        """The inverse of `to_json`."""
        curves = {
            name: [(int(step), float(value)) for step, value in kept[name]] for name in ("losses", "learning_rates")
        }
        validations = [(int(step), dict(found)) for step, found in kept["validations"]]
        special = {"best": Best(**kept["best"]), "validations": validations, "won": Counter(kept["won"])}
        return cls(**{**kept, **curves, **special}, ledger=ledger)
