"""What the report of a run holds: plain numbers and names, as the page gets them."""

from pta_ray.pages.labels import Label
from pta_ray.pages.page import Record

Curve = list[tuple[float, float]]
"""Values by step."""


class Model(Record):
    """A model that took part."""

    name: str
    role: str
    place: str
    """Where it comes from, without directories of the machine."""
    sha256: str
    """The first digits of its fingerprint."""


class Stage(Record):
    """What one stage of the stream has done."""

    name: str
    rows: int
    """Windows; several times the same where epochs repeat them."""
    tokens: int
    tokens_per_second: float
    busy_share: float
    """Of the time that its processes were there, 0 to 1."""
    failures: int
    processes: int


class Bottleneck(Record):
    """What sets the pace, as of `operators.Bottleneck`."""

    operator: str
    busy_share: float
    windows_per_second: float
    remedy: str


class SetAside(Record):
    """Windows or documents that the run went on without, for the same reason at the same stage."""

    stage: str
    reason: str
    number: int
    share: float | None
    """Of the training text; None where nobody knows."""
    first: list[str]
    """The ids of some."""


class States(Record):
    """Representations of the sampled positions, of one model."""

    compactness: float
    points: list[tuple[float, float]]
    variance_share: float
    """Of the states' variance, in the plane of the points."""


class Representations(Record):
    """Representations of tokens before and after training, as of `training.representations.compare`."""

    tokens: list[Label]
    groups: list[int]
    before: States
    after: States


class Report(Record):
    """All of it. Lists and dictionaries are empty where nothing is known."""

    name: str
    target: str
    models: list[Model]
    simulated: list[str]
    """Models that made up what they said."""
    text: list[tuple[str, str, str]]
    """Use, domain and place of each text."""
    settings: list[tuple[str, str]]
    packages: list[tuple[str, str]]
    cache: str
    """Where the rows came from; empty if they came from the sources."""
    seconds: float
    steps: int
    best_step: int | None
    """Whose weights are the result, where validations chose it."""
    num_windows: int
    losses: Curve
    learning_rates: Curve
    bits_curves: dict[str, Curve]
    """Bits per byte of the target by domain: at step 0 the starting weights, then every validation."""
    bits_per_byte: dict[str, dict[str, float]]
    """By model, the fused one among them, then by domain."""
    won: dict[str, dict[str, int]]
    """Windows learned from, by domain and by the model whose distribution it was."""
    alignment: dict[str, dict[str, float | None]]
    """Fidelity by source, as of `Fidelity.figures`."""
    stages: list[Stage]
    bottleneck: Bottleneck | None
    num_set_aside: int
    set_aside: list[SetAside]
    """The most frequent first, and no more than fit a page."""
    representations: Representations | None
