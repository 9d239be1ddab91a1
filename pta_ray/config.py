"""The job file: what is fused, from which text, and how.

A job file needs `target`, `sources` and `data`; everything else has a default. Nothing heavy is imported here, so that
a broken job is refused at once on any machine.
"""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pta_ray.settings import Ramp, Range, Settings, TemperatureRamp, expand

Divergence = Literal["cross_entropy", "forward_kl", "reverse_kl", "jsd"]
Tail = Literal["label", "bucket"]
Choice = Literal["min_ce", "avg_ce", "position"]


class Simulated(Settings):
    """What an engine that computes nothing pretends: it takes its time and makes its distributions up."""

    tokens_per_second: float = Field(1000, gt=0)
    """Of one replica."""
    startup_seconds: float = Field(0, ge=0)
    """Until a replica can score."""
    top_k: int | None = Field(None, ge=1, le=128)
    """Candidates per position; by default as many as it is asked for."""
    failure_rate: float = Field(0, ge=0, le=1)
    """Share of batches that kill the replica, whatever is in them."""
    bad_window_rate: float = Field(0, ge=0, le=1)
    """Share of windows that it cannot score, each time it tries."""
    memory_tokens: int | None = Field(None, ge=64)
    """With more `max_batched_tokens` than these it runs out of memory."""


class ServedModel(Settings):
    """A frozen model and the actors that score text with it."""

    model: str
    """A directory, a Hugging Face hub id, or a URI (`hf://`, `s3://`, `gs://`) of an ordinary checkpoint."""
    name: str = Field("", pattern="^[^/]*$")
    """How tables and metrics call it; the last part of `model` by default."""
    engine: Literal["vllm", "transformers", "simulated"] = "vllm"
    """What computes the log-probabilities. `transformers` is for machines and architectures without vLLM; `simulated`
    computes nothing, to try out a cluster (only the tokenizer of `model` is read then)."""
    simulated: Simulated = Simulated()
    """Of `engine: simulated`."""
    replicas: Range = (1, 1)
    """Scoring actors, or `[fewest, most]`: then their number follows the demand, as far as the cluster has room."""
    cpus: float | None = Field(None, gt=0)
    """CPUs of one replica; by default one, or an equal share of a machine that has fewer."""
    gpus: float | None = Field(None, ge=0)
    """GPUs of one replica; by default one if the cluster has any. Models of equal fractions share a GPU."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs that each layer of a replica is spread over (vLLM)."""
    pipeline_parallel: int = Field(1, ge=1)
    """Groups of GPUs that the layers of a replica are dealt out to, one behind the other (vLLM)."""
    max_batched_tokens: int = Field(4096, ge=64)
    """Tokens in one forward pass. Bounds the memory of the log-probabilities: tokens x vocabulary x 4 bytes x 3. Halved
    when a replica runs out of memory."""
    timeout_seconds: float = Field(600, gt=0)
    """A replica that works longer on one batch hangs, and is replaced."""
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

    @property
    def num_gpus_spread(self) -> int:
        """GPUs that one replica is spread over."""
        return self.tensor_parallel * self.pipeline_parallel

    @model_validator(mode="after")
    def _spread_by_vllm(self) -> "ServedModel":
        if self.num_gpus_spread > 1 and (self.engine != "vllm" or self.gpus is not None):
            raise ValueError(
                "tensor_parallel and pipeline_parallel need engine: vllm, and say how many gpus (omit gpus)"
            )
        return self

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
    held_out: list[TextSource] = Field([])
    """What bits per byte are measured on, at the end and in validations; not trained on."""
    window_tokens: int = Field(1024, ge=16)
    """The longest window, in tokens of the target."""
    epochs: int = Field(1, ge=1)
    """How often the stream goes through the training text, each time in another order."""
    seed: int = 0
    """Decides the order of the text."""
    cache: str = ""
    """A directory that all hosts reach: the fused windows of the first epoch are kept there, and the later epochs read
    them instead of scoring the text again. A cache for `--from-cache` when the run has ended."""
    max_failed_share: float = Field(0.05, ge=0, le=1)
    """Share of the training text that may be set aside because it cannot be read, scored or aligned; more ends the
    run."""

    @field_validator("cache")
    @classmethod
    def _expand_cache(cls, value: str) -> str:
        return expand(value).rstrip("/")

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
    """Candidates kept per position, of the sources and of the target. More teach more, and cost bytes of the stream and
    work of the alignment."""
    method: Literal["pta", "pta-paper", "mined", "exact"] = "pta"
    """`pta`: semi-relaxed transport, the actual token pinned to its exact probability. The others are there to compare
    with: `pta-paper`, balanced transport and then each candidate to where most of it goes; `mined`, each candidate to
    the nearest token by edit distance, as FuseLLM does; `exact`, to the same token or to none."""
    cost: Literal["canonical", "prefix", "edit"] = "canonical"
    """Transport cost of `pta` between two candidates: `canonical` is 0 where both tokenizers, taking the longest token
    that they have, may write the same text like this; `prefix` is 0 where one begins with the other; `edit` is the
    paper's normalised edit distance."""
    epsilon: float = Field(0.02, ge=0.001, le=10)
    """Entropic regularisation of the transport."""
    rho: float = Field(0.05, gt=0)
    """Pull of the target's own distribution on the transport of `pta`; towards infinity it becomes balanced."""
    targets: Literal["tokens", "intervals"] = "tokens"
    """What the target learns to predict: `tokens` of its own with their probabilities; or `intervals` of its vocabulary
    in byte order, which leave open which of the tokens that begin with a source's token is meant (needs `pta`)."""
    replicas: Range = (1, 1)
    """Alignment actors, one CPU each, or `[fewest, most]`: then their number follows the demand."""

    @model_validator(mode="after")
    def _intervals_of_pta(self) -> "Alignment":
        if self.targets == "intervals" and self.method != "pta":
            raise ValueError(f"targets: intervals needs method: pta (got {self.method})")
        return self


class Fusion(Settings):
    """Which of the aligned distributions, and the target's own, the target learns from."""

    choice: Choice = "min_ce"
    """`min_ce`: those of the model that predicts the window best; `avg_ce`: of all, mixed by how well they predict it;
    `position`: at every boundary those of the model that predicts the next token best."""


class Lora(Settings):
    """Low-rank adapters in place of full fine-tuning; they are merged into the exported weights."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the linear layers that get an adapter; the head gets none."""


class Checkpoints(Settings):
    """What a run that was interrupted goes on from."""

    every_steps: int = Field(100, ge=1)
    """Optimizer steps between two checkpoints."""
    keep_last: int = Field(2, ge=1)
    """How many stay; the best one by validation stays besides."""
    directory: str = ""
    """A directory that all workers reach, or any URI that pyarrow writes to (`s3://`, `gs://`); by default within
    `<output>.partial`, and removed with it when the run has ended well."""

    @field_validator("directory")
    @classmethod
    def _expand_directory(cls, value: str) -> str:
        return expand(value).rstrip("/")


class Validation(Settings):
    """Bits per byte on the held-out text during training. The best checkpoint becomes the result."""

    every_steps: int = Field(ge=1)
    """Optimizer steps between two validations; a checkpoint is written with each that is the best so far."""
    patience: int | None = Field(None, ge=1)
    """Ends the training after so many validations in a row without a better one; by default it goes on."""


class Training(Settings):
    """How the target learns from the fused distributions. The defaults are the paper's, but for `clm_weight` (there
    0.8) and `source_temperature` (there 1), for which jobs/experiments found better ones at a small scale, and for
    `tail`, which the paper does not have."""

    clm_weight: Ramp = Ramp(start=0.5, end=0.5)
    """Weight of the ordinary language-modelling loss; the rest goes to the fused distributions. A number, or
    `{start: 0.5, end: 1}`."""
    divergence: Divergence = "cross_entropy"
    """What is minimised between the fused distributions and the target's."""
    temperature: float = Field(1.0, gt=0)
    """Flattens both distributions before they are compared."""
    source_temperature: TemperatureRamp = TemperatureRamp(start=8, end=1)
    """Flattens what sources say, not what the target itself believed before: it learns first which tokens may come, in
    the end how likely each is. A number, or `{start: 8, end: 1}`; 1 flattens nothing. Intervals are never flattened."""
    tail: Tail = "label"
    """What is learned of the mass that no candidate has: `label`: where the text goes on with none of them, that token,
    as the text does as often as the sources say; `bucket`: everywhere, that it lies on some other token. `reverse_kl`,
    `jsd` and intervals have buckets always."""
    learning_rate: float = Field(1e-5, gt=0)
    warmup: float = Field(0.008, ge=0, lt=1)
    """Share of the run in which the learning rate rises; it then falls along a cosine to a tenth."""
    weight_decay: float = Field(0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clipping: float = Field(1.0, gt=0)
    batch_windows: int = Field(128, ge=1)
    """Windows per optimizer step, over all workers and however many there are."""
    micro_batch_windows: int = Field(4, ge=1)
    """Windows per forward pass of one worker, of about equal length."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of weights and activations: bfloat16 on GPUs and float32 on CPUs, unless said otherwise. The optimizer's are
    float32 always."""
    gradient_checkpointing: bool = False
    """Compute activations again for the gradient instead of keeping them."""
    lora: Lora | None = None
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO: 1 shards the optimizer's state over the workers, 2 the gradients too, 3 the parameters too. In
    bfloat16, which needs float32 copies of the weights, 0 is run as 1."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in the host's memory (ZeRO 1 to 3)."""
    offload_parameters: bool = False
    """Keep the parameters in the host's memory too (ZeRO 3)."""
    workers: Range = (1, 1)
    """Training workers, or `[fewest, most]`: then their number follows what the cluster has."""
    cpus: float | None = Field(None, gt=0)
    """CPUs of one worker; by default one, or an equal share of a machine that has fewer."""
    gpus: float | None = Field(None, ge=0)
    """GPUs of one worker; by default one if the cluster has any."""
    positions_per_chunk: int = Field(256, ge=1)
    """Positions whose logits exist at the same time."""
    checkpoints: Checkpoints = Checkpoints()
    validation: Validation | None = None
    max_bad_windows: int = Field(10, ge=0)
    """Windows set aside because their targets or their loss are not finite, or steps left out because their gradient
    is not; one more stops the run."""
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(["tensorboard"])
    """Where the scalars of the training go, besides metrics.json; W&B and MLflow find their account in their own
    environment variables."""

    @model_validator(mode="after")
    def _offload_of_what_is_sharded(self) -> "Training":
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3")
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError("offload_parameters needs zero_stage 3")
        return self


class Job(Settings):
    """One fusion: sources and text into a target."""

    target: ServedModel
    """The model that is fine-tuned; its frozen starting weights are also a candidate teacher."""
    sources: list[ServedModel] = Field(min_length=1)
    """The models that are fused into it."""
    data: Data
    alignment: Alignment = Alignment()
    fusion: Fusion = Fusion()
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

    @model_validator(mode="after")
    def _intervals_of_one(self) -> "Job":
        if self.alignment.targets == "intervals" and self.fusion.choice != "min_ce":
            raise ValueError(f"alignment.targets: intervals needs fusion.choice: min_ce (got {self.fusion.choice})")
        return self

    @property
    def models(self) -> list[ServedModel]:
        """The target, then the sources."""
        return [self.target, *self.sources]
