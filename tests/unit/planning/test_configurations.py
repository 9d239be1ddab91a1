import json
from pathlib import Path

import pytest
import yaml

from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.planning import configurations
from pta_ray.planning.architecture import architecture_of
from pta_ray.planning.configurations import read_models

KNOWN = yaml.safe_load(Path(configurations.__file__).with_name("known_models.yaml").read_text())["models"]
PUBLISHED = {
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "openlm-research/open_llama_7b_v2": 6_738_415_616,
    "mosaicml/mpt-7b": 6_649_286_656,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-32B": 32_763_876_352,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "allenai/OLMo-2-0425-1B": 1_484_916_736,
    "google/gemma-2-2b": 2_614_341_888,
    "EleutherAI/pythia-70m": 70_426_624,
    "EleutherAI/pythia-1.4b": 1_414_647_808,
    "tiiuae/Falcon3-1B-Base": 1_669_408_768,
}
"""Parameters, as the models' pages have them."""

TINY = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32,
}  # fmt: skip


def job(target: str, source: str) -> Job:
    return Job.model_validate({"target": target, "sources": [source], "data": "text"})


def write_model(folder: Path, content: str) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(content)
    return str(folder)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_known_model_has_the_parameters_that_were_published(name: str) -> None:
    assert architecture_of(KNOWN[name]).parameters == PUBLISHED[name]


def test_every_known_model_can_be_read() -> None:
    assert all(architecture_of(config).parameters > 1e7 for config in KNOWN.values())


def test_every_hub_model_of_the_job_files_is_known() -> None:
    for path in Path("jobs").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        entries = [content["target"], *content["sources"]]
        names = [entry["model"] if isinstance(entry, dict) else entry for entry in entries]
        assert {name for name in names if not name.startswith("~")} <= KNOWN.keys()


def test_directories_are_read_without_weights(tmp_path: Path) -> None:
    target = write_model(tmp_path / "a", json.dumps(TINY))
    source = write_model(tmp_path / "b", json.dumps({**TINY, "num_hidden_layers": 3}))
    models = read_models(job(target, source))
    assert [(m.name, m.architecture.layers, m.origin) for m in models] == [
        ("a", 2, "config.json"), ("b", 3, "config.json"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "problem"),
    [("{", "cannot read"), ("[]", "holds no object"), ('{"model_type": "mamba"}', r"\(mamba\) is none of")],
)
def test_a_configuration_that_says_nothing_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    good, bad = write_model(tmp_path / "a", json.dumps(TINY)), write_model(tmp_path / "b", content)
    with pytest.raises(JobError, match=rf"sources.0.model: .*{problem}"):
        read_models(job(good, bad))


def test_a_model_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"target.model: there is no model at /nowhere/model"):
        read_models(job("/nowhere/model", write_model(tmp_path / "b", json.dumps(TINY))))
