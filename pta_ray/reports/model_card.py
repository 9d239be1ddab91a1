"""The README.md of a result: what was fused into what, how, and what was measured; a Hugging Face model card."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCardData

from pta_ray.config import Job, TextSource
from pta_ray.evaluation.bits_per_byte import BitsPerByte
from pta_ray.evaluation.fidelity import fidelity_from_counts
from pta_ray.reports.job_facts import settings, shown

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PAPER = "[PTA-LLM, Zeng et al., NeurIPS 2025](https://arxiv.org/abs/2509.17276)"


@dataclass(frozen=True)
class Trained:
    """What the training came to."""

    num_steps: int
    """Optimizer steps that were taken."""
    best_step: int | None
    """The step whose weights are the result, where validations chose it."""
    num_set_aside: int
    """Windows that were not learned from since they, or their loss, were not finite."""


def model_card(
    job: Job,
    models: Mapping[str, Mapping[str, str]],
    packages: Mapping[str, str],
    bits_per_byte: BitsPerByte,
    counts: Mapping[str, float],
    trained: Trained,
    simulated: Sequence[str],
) -> str:
    """Markdown behind YAML metadata. It holds no directory of the machine: of a local path, only the last part.

    Args:
        models: `sha256` by name, as of `result.fingerprints`.
        packages: versions by name, that of pta-ray among them.
        bits_per_byte: may be empty, if there was no held-out text.
        counts: telemetry's, of which `won/<domain>/<name>` and fidelity are told.
        simulated: names of the models that made up what they said.
    """
    sections = [
        _introduction(job, packages["pta-ray"]),
        *([_warning(simulated)] if simulated else []),
        _loading(job),
        "## What was fused\n\n" + _models_table(job, models, simulated),
        "## Text\n\n" + _text(job, counts),
        "## Bits per byte on held-out text\n\n" + _bits(job, bits_per_byte, trained),
        "## What alignment kept of the sources\n\n" + _fidelity(counts),
        "## Settings\n\n" + _table(["setting", "value"], settings(job)),
        "## Training\n\n" + _training(job, trained),
        "## Versions\n\n" + _table(["package", "version"], packages.items()),
    ]
    return f"---\n{_metadata(job, simulated).to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"


def _metadata(job: Job, simulated: Sequence[str]) -> ModelCardData:
    hub_ids = [model.model.removeprefix("hf://") for model in job.models]
    return ModelCardData(
        base_model=[name for name in hub_ids if _HUB_ID.fullmatch(name)] or None,
        base_model_relation="finetune",
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["model-fusion", "knowledge-distillation", "pta-ray", *(["simulated"] if simulated else [])],
    )


def _introduction(job: Job, version: str) -> str:
    sources = ", ".join(f"**{source.name}**" for source in job.sources)
    return (
        f"# {Path(job.output).name}\n\n"
        f"**{job.target.name}**, fine-tuned on text together with what {sources} and the starting weights themselves "
        "say comes next in it, expressed in its own vocabulary: knowledge fusion by probabilistic token alignment "
        f"({_PAPER}), made with pta-ray {version}."
    )


def _warning(simulated: Sequence[str]) -> str:
    names = ", ".join(f"**{name}**" for name in simulated)
    return (
        f"> **This model is good for nothing.** It comes from a trial of the machinery: {names} did not run. What they "
        "say was made up, this model has learned from it, and figures below that tell of them mean nothing."
    )


def _loading(job: Job) -> str:
    option = ", trust_remote_code=True" if job.target.trust_remote_code else ""
    return f"""## How to load it

It is an ordinary checkpoint; `path` is this directory, or where it was uploaded to.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(path{option})
tokenizer = AutoTokenizer.from_pretrained(path{option})
```"""


def _models_table(job: Job, models: Mapping[str, Mapping[str, str]], simulated: Sequence[str]) -> str:
    roles = ["target, and teacher as it was", *["source"] * len(job.sources)]
    rows = [
        (
            f"{role}, simulated" if model.name in simulated else role,
            model.name,
            shown(model.model),
            models[model.name]["sha256"][:12],
        )
        for role, model in zip(roles, job.models, strict=True)
    ]
    return _table(["role", "name", "model", "SHA-256"], rows)


def _text(job: Job, counts: Mapping[str, float]) -> str:
    data = job.data
    parts = [f"Learned from, {data.epochs} x:", _files_table(data.train)]
    won = {key.removeprefix("won/"): value for key, value in counts.items() if key.startswith("won/")}
    if won:
        parts += ["Whose distributions it learned from, in windows of each domain:", _won_table(job, won)]
    if data.held_out:
        parts += ["Held out:", _files_table(data.held_out)]
    return "\n\n".join(parts)


def _files_table(sources: Iterable[TextSource]) -> str:
    return _table(["domain", "path"], [(source.domain, shown(source.path)) for source in sources])


def _won_table(job: Job, won: Mapping[str, float]) -> str:
    """Shares of the windows by domain and model; `won` is by `<domain>/<name>`."""
    rows = []
    for domain in sorted({key.split("/", 1)[0] for key in won}):
        numbers = [won.get(f"{domain}/{model.name}", 0) for model in job.models]
        rows.append([domain, f"{sum(numbers):.0f}", *(f"{number / sum(numbers):.1%}" for number in numbers)])
    return _table(["domain", "windows", *(model.name for model in job.models)], rows)


def _bits(job: Job, bits_per_byte: BitsPerByte, trained: Trained) -> str:
    if not bits_per_byte:
        return "No held-out text was given, so nothing has been measured."
    target = job.target.name
    labels = {target: f"{target}, before", "fused": f"{target}, fused: this model"}
    order = [*(source.name for source in job.sources), target, "fused"]
    rows = []
    for name in (name for name in order if name in bits_per_byte):
        values = bits_per_byte[name].values()
        figures = (*values, sum(values) / len(values))
        rows.append([labels.get(name, f"{name}, source"), *(f"{value:.3f}" for value in figures)])
    table = _table(["model", *bits_per_byte[target], "mean"], rows)
    note = "Cross-entropy in bits over the bytes of the text; lower is better, whatever the tokenizer."
    if trained.best_step is not None:
        note += " The same text chose the step (see below), which flatters this model a little."
    return f"{note}\n\n{table}"


def _fidelity(counts: Mapping[str, float]) -> str:
    found = fidelity_from_counts(counts)
    if not found:
        return "Not measured."
    headings = ["source", "coverage", "information kept", "next-byte divergence, bits", "same next byte"]
    rows = [
        [name, *("-" if math.isnan(figure) else f"{figure:.3f}" for figure in fidelity.figures.values())]
        for name, fidelity in found.items()
    ]
    note = "On a sample of the windows. Coverage and information kept are 1 where nothing is lost, divergence is 0."
    return f"{note}\n\n{_table(headings, rows)}"


def _training(job: Job, trained: Trained) -> str:
    sentences = [f"{trained.num_steps} optimizer steps were taken."]
    if trained.best_step is not None:
        sentences.append(
            f"The weights are those after step {trained.best_step}, which had the lowest mean bits per byte of all "
            "validations on the held-out text."
        )
    else:
        sentences.append("The weights are those after the last step; no validation chose among them.")
    if trained.num_set_aside:
        sentences.append(f"{trained.num_set_aside} windows were set aside: targets or loss were not finite.")
    return " ".join(sentences)


def _table(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in line)} |" for line in lines)
