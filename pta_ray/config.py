"""The job file: what is fused, from which text, and how.

A job file needs `target`, `sources` and `data`; everything else has a default. Nothing heavy is imported here, so that
a broken job is refused at once on any machine.
"""

import difflib
import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pta_ray.errors import JobError


class Settings(BaseModel):
    """Base of every section: unknown keys and wrong types are errors, the string beneath a field documents it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


def expand(path: str) -> str:
    """A path with `~` and `$VARIABLE` filled in, absolute if it exists, since actors have other working directories;
    a URI or a hub id passes unchanged."""
    if "://" in path:
        if "@" in path.split("://", 1)[1].split("/", 1)[0]:
            raise ValueError("credentials do not belong in a job file; set them where the file system looks for them")
        return path
    expanded = Path(os.path.expandvars(path)).expanduser()
    return str(expanded.absolute()) if expanded.exists() else str(expanded)


class ServedModel(Settings):
    """A frozen model and the actors that score text with it."""

    model: str
    """A directory, a Hugging Face hub id, or a URI (`hf://`, `s3://`, `gs://`) of an ordinary checkpoint."""
    name: str = Field("", pattern="^[^/]*$")
    """How tables and metrics call it; the last part of `model` by default."""
    engine: Literal["vllm", "transformers"] = "vllm"
    """What computes the log-probabilities. `transformers` is for machines and architectures without vLLM."""
    replicas: int = Field(1, ge=1)
    """Scoring actors."""
    cpus: float | None = Field(None, gt=0)
    """CPUs of one scoring actor; by default one, or an equal share of a machine that has fewer."""
    gpus: float | None = Field(None, ge=0)
    """GPUs of one scoring actor; by default one if the cluster has any. Fractions share a GPU."""
    max_batched_tokens: int = Field(4096, ge=64)
    """Tokens in one forward pass. Bounds the memory of the log-probabilities: tokens x vocabulary x 4 bytes x 3."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint."""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @field_validator("model")
    @classmethod
    def _expand_model(cls, value: str) -> str:
        return expand(value).rstrip("/")

    @model_validator(mode="after")
    def _default_name(self) -> "ServedModel":
        if not self.name:
            object.__setattr__(self, "name", self.model.rsplit("/", 1)[-1])
        return self


class TextSource(Settings):
    """Documents of one domain."""

    path: str
    """A file, or a directory read recursively; local or any URI that pyarrow reads (`hf://`, `s3://`, `gs://`).
    Parquet, JSON lines (also .gz, .zst) or plain text, by file name."""
    domain: str = Field("", pattern="^[^/]*$")
    """How results are grouped; the last part of `path` without its suffix by default."""
    text_column: str = "text"
    """The column, or JSON key, that holds a document's text."""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("path")
    @classmethod
    def _expand_path(cls, value: str) -> str:
        return expand(value).rstrip("/")

    @model_validator(mode="after")
    def _default_domain(self) -> "TextSource":
        if not self.domain:
            object.__setattr__(self, "domain", self.path.rsplit("/", 1)[-1].split(".", 1)[0])
        return self


class Data(Settings):
    """The text that the models are compared on and the target learns from."""

    train: list[TextSource] = Field(min_length=1)
    """What the target learns from."""
    held_out: list[TextSource] = []
    """What bits per byte are measured on at the end; not trained on."""
    window_tokens: int = Field(1024, ge=16)
    """The longest window, in tokens of the target."""
    epochs: int = Field(1, ge=1)
    """How often the stream goes through the training text, each time in another order."""
    seed: int = 0
    """Decides the order of the text."""

    @model_validator(mode="before")
    @classmethod
    def _from_paths(cls, value: Any) -> Any:
        return {"train": value} if isinstance(value, str | list) else value

    @field_validator("train", "held_out", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]


class Alignment(Settings):
    """How a source's distribution is expressed in the target's vocabulary."""

    top_k: int = Field(10, ge=1, le=128)
    """Candidates kept per position, of the sources and of the target."""
    method: Literal["pta", "pta-paper", "mined", "exact"] = "pta"
    """`pta`: semi-relaxed transport, the actual token pinned to its exact probability. The others are there to compare
    with: `pta-paper`, balanced transport and then each candidate to where most of it goes; `mined`, each candidate to
    the nearest token by edit distance, as FuseLLM does; `exact`, to the same token or to none."""
    cost: Literal["prefix", "edit"] = "prefix"
    """Transport cost of `pta` between two candidates: `prefix` is 0 where one begins with the other; `edit` is the
    paper's normalised edit distance."""
    epsilon: float = Field(0.02, ge=0.001, le=10)
    """Entropic regularisation of the transport."""
    rho: float = Field(0.05, gt=0)
    """Pull of the target's own distribution on the transport of `pta`; towards infinity it becomes balanced."""


class Training(Settings):
    """How the target learns from the fused distributions. The defaults are the paper's."""

    clm_weight: float = Field(0.8, ge=0, le=1)
    """Weight of the ordinary language-modelling loss; the rest goes to the fused distributions."""
    learning_rate: float = Field(1e-5, gt=0)
    warmup: float = Field(0.008, ge=0, lt=1)
    """Share of the run in which the learning rate rises; it then falls along a cosine to a tenth."""
    weight_decay: float = Field(0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clipping: float = Field(1.0, gt=0)
    batch_windows: int = Field(128, ge=1)
    """Windows per optimizer step, over all workers."""
    micro_batch_windows: int = Field(4, ge=1)
    """Windows per forward pass of one worker."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO: 1 shards the optimizer's state over the workers, 2 the gradients too, 3 the parameters too."""
    workers: int = Field(1, ge=1)
    cpus: float | None = Field(None, gt=0)
    """CPUs of one worker; by default one, or an equal share of a machine that has fewer."""
    gpus: float | None = Field(None, ge=0)
    """GPUs of one worker; by default one if the cluster has any."""
    positions_per_chunk: int = Field(1024, ge=1)
    """Positions whose logits exist at the same time."""

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> "Training":
        per_pass = self.micro_batch_windows * self.workers
        if self.batch_windows % per_pass:
            raise ValueError(
                f"batch_windows ({self.batch_windows}) must be a multiple of micro_batch_windows x workers ({per_pass})"
            )
        return self


class Job(Settings):
    """One fusion: sources and text into a target."""

    target: ServedModel
    """The model that is fine-tuned; its frozen starting weights are also a candidate teacher."""
    sources: list[ServedModel] = Field(min_length=1)
    """The models that are fused into it."""
    data: Data
    alignment: Alignment = Alignment()
    training: Training = Training()
    output: str = ""
    """The directory of the fused checkpoint; `runs/<name of the job file>` by default."""

    @field_validator("output")
    @classmethod
    def _expand_output(cls, value: str) -> str:
        return expand(value).rstrip("/")

    @model_validator(mode="after")
    def _distinct_names(self) -> "Job":
        names = [*(model.name for model in self.models), "fused"]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"two models are called {name!r} (the result is called 'fused'); change a `name`")
        return self

    @property
    def models(self) -> list[ServedModel]:
        """The target, then the sources."""
        return [self.target, *self.sources]


def load_job(path: Path, overrides: list[str]) -> Job:
    """Reads a job file and applies `key.sub=value` overrides, whose values are YAML.

    Raises `JobError` with the field and the mend for everything that is wrong with it.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise JobError("JOB", f"there is no job file at {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobError("JOB", f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise JobError("JOB", f"{path} must hold keys and values: target, sources, data")
    for override in overrides:
        _apply(raw, override)
    raw.setdefault("output", f"runs/{path.stem}")
    try:
        return Job.model_validate(raw)
    except ValidationError as error:
        raise _first_problem(error) from None


def _apply(raw: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise JobError("--set", f"{override!r} is not of the form key=value")
    *parents, last = key.split(".")
    node: Any = raw
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[int(last) if isinstance(node, list) else last] = yaml.safe_load(value)
    except (ValueError, IndexError, TypeError, AttributeError, yaml.YAMLError):
        raise JobError("--set", f"{key!r} does not lead to a field of this job file") from None


def _first_problem(error: ValidationError) -> JobError:
    problems = error.errors(include_url=False)
    # A misspelt key shows up twice, as unknown and as missing: the unknown one is what the user typed.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    field = ".".join(str(part) for part in problem["loc"]) or "job"
    if problem["type"] == "extra_forbidden":
        known = _keys_at(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
        return JobError(field, f"unknown key; {mend}")
    if problem["type"] == "missing":
        return JobError(field, "is missing; a job file needs target, sources and data")
    if problem["type"] == "value_error":
        return JobError(field, problem["msg"].removeprefix("Value error, "))
    message = problem["msg"]
    return JobError(field, f"{message[0].lower()}{message[1:]} (got {problem['input']!r:.80})")


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at a location knows."""
    section: Any = Job
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            annotation = section.model_fields[part].annotation
            section = getattr(annotation, "__args__", (annotation,))[0]
    return list(section.model_fields)
