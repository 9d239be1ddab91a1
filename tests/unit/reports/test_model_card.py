"""The card against the figures it was made from, read back as Hugging Face reads it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from pta_ray.board import Snapshot
from pta_ray.cache import Cache, Description
from pta_ray.config import Job
from pta_ray.evaluation.fidelity import Fidelity, fidelity_counts
from pta_ray.reports.model_card import Trained, model_card
from pta_ray.result import describe

SETTINGS: dict[str, Any] = {
    "target": "owner/target",
    "sources": [{"model": "hf://owner/coder"}, {"model": "/home/someone/models/poet", "name": "poet"}],
    "data": {"train": ["/home/someone/code.jsonl", "s3://bucket/prose"], "held_out": ["hf://datasets/a/b|c.parquet"]},
    "output": "runs/fused-demo",
}
MODELS = {name: {"model": "?", "sha256": f"{name[0] * 64}"} for name in ("target", "coder", "poet")}
PACKAGES = {"pta-ray": "9.8.7", "torch": "1.2.3"}
BITS = {
    "coder": {"code": 1.5, "prose": 4.0625},
    "fused": {"code": 1.75, "prose": 2.5},
    "poet": {"code": 3.0, "prose": 1.25},
    "target": {"code": 2.0, "prose": 3.0},
}
COUNTS = {
    "won/code/coder": 30, "won/code/target": 10, "won/prose/poet": 3, "positions/coder": 5,
    **fidelity_counts("coder", Fidelity(num_positions=10, num_spoken=9, num_compared=8, num_agreeing=6)),
}  # fmt: skip


def card(trained: Trained | None = None, settings: dict[str, Any] | None = None, **inputs: Any) -> str:
    job = Job.model_validate({**SETTINGS, **(settings or {})})
    given = {"models": MODELS, "packages": PACKAGES, "bits_per_byte": BITS, "counts": COUNTS, "simulated": [], **inputs}
    return model_card(job, **given, trained=trained or Trained(500, None, 0))


def tables(text: str) -> dict[str, list[list[str]]]:
    """The cells of every table, by its first heading; all rows of a table are equally long."""
    found: dict[str, list[list[str]]] = {}
    for block in text.split("\n\n"):
        if block.startswith("|"):
            head, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
            assert set(rule) == {"---"} and {len(row) for row in [rule, *rows]} == {len(head)}
            found[" ".join(head)] = rows
    return found


def test_hugging_face_reads_the_metadata(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card())
    loaded = ModelCard.load(tmp_path / "README.md")
    assert loaded.data.base_model == ["owner/target", "owner/coder"]
    assert loaded.data.pipeline_tag == "text-generation" and loaded.data.license is None
    assert loaded.text.lstrip().startswith("# fused-demo")
    assert yaml.safe_load(card().split("---\n")[1]) == loaded.data.to_dict()


def test_no_hub_id_no_base_model(tmp_path: Path) -> None:
    local = {"target": "/models/target", "sources": ["s3://bucket/models/coder"]}
    (tmp_path / "README.md").write_text(card(settings=local, counts={}))
    assert ModelCard.load(tmp_path / "README.md").data.base_model is None


def test_models_are_named_with_their_fingerprints_and_no_directory_of_the_machine() -> None:
    text = card()
    rows = tables(text)["role name model SHA-256"]
    assert [row[1:] for row in rows] == [
        ["target", "owner/target", "t" * 12], ["coder", "hf://owner/coder", "c" * 12], ["poet", "poet", "p" * 12]
    ]  # fmt: skip
    assert "/home" not in text and "s3://bucket/prose" in text and "code.jsonl" in text


def test_a_bar_in_a_name_breaks_no_table() -> None:
    assert ["b&#124;c", "hf://datasets/a/b&#124;c.parquet"] in [
        row for rows in tables(card()).values() for row in rows
    ]  # fmt: skip


def test_bits_per_byte_before_and_after_are_those_measured() -> None:
    rows = tables(card())["model code prose mean"]
    assert [row[0].split(",")[0] for row in rows] == ["coder", "poet", "target", "target"]
    for row, name in zip(rows, ["coder", "poet", "target", "fused"], strict=True):
        values = [BITS[name]["code"], BITS[name]["prose"]]
        assert [float(cell) for cell in row[1:]] == pytest.approx([*values, sum(values) / 2], abs=5e-4)


def test_without_held_out_text_nothing_is_claimed() -> None:
    text = card(bits_per_byte={}, settings={"data": {"train": "t"}})
    assert "nothing has been measured" in text and "Held out" not in text
    assert not any(heading.startswith("model ") for heading in tables(text))


def test_who_won_adds_up_by_domain() -> None:
    rows = tables(card())["domain windows target coder poet"]
    assert rows == [["code", "40", "25.0%", "75.0%", "0.0%"], ["prose", "3", "0.0%", "0.0%", "100.0%"]]


def test_fidelity_leaves_open_what_was_not_measured() -> None:
    [rows] = [rows for head, rows in tables(card()).items() if head.startswith("source coverage")]
    assert rows == [["coder", "0.900", "-", "0.000", "0.750"]]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"method": "pta", "cost": "canonical", "rho": "0.05", "clm_weight": "0.5", "lora": "none"}),
        (
            {"training": {"clm_weight": {"start": 0.5, "end": 1}, "learning_rate": 3e-4, "divergence": "jsd"}},
            {"clm_weight": "0.5 to 1", "learning_rate": "0.0003", "divergence": "jsd"},
        ),
        ({"training": {"lora": {"rank": 4}}}, {"lora": "rank 4, alpha 32, dropout 0, merged"}),
        ({"alignment": {"method": "mined", "top_k": 7}}, {"method": "mined", "top_k": "7", "cost": None, "rho": None}),
        ({"alignment": {"method": "pta-paper", "epsilon": 0.5}}, {"epsilon": "0.5", "cost": None}),
    ],
)
def test_settings_are_those_of_the_job(settings: dict[str, Any], expected: dict[str, str | None]) -> None:
    rows = dict(tables(card(settings=settings))["setting value"])  # type: ignore[arg-type]
    assert {name: rows.get(name) for name in expected} == expected


def test_it_tells_which_weights_these_are() -> None:
    last, chosen = card(Trained(500, None, 0)), card(Trained(500, 300, 2))
    assert "500 optimizer steps" in last and "after the last step" in last and "chose the step" not in last
    assert "after step 300" in chosen and "chose the step" in chosen and "2 windows were set aside" in chosen


def test_versions_are_listed() -> None:
    text = card()
    assert tables(text)["package version"] == [["pta-ray", "9.8.7"], ["torch", "1.2.3"]]
    assert "pta-ray 9.8.7" in text


def test_code_of_the_checkpoint_is_asked_for_where_it_needs_any() -> None:
    custom = card(settings={"target": {"model": "owner/target", "trust_remote_code": True}})
    assert custom.count("path, trust_remote_code=True") == 2 and "trust_remote_code" not in card()


def test_what_was_made_up_is_said_first() -> None:
    honest, simulated = card(), card(simulated=["coder", "poet"])
    first, second = simulated.split("---\n\n", 1)[1].split("\n\n")[1:3]
    assert "**target**, fine-tuned" in first
    assert second.startswith("> **") and "**coder**, **poet**" in second and "made up" in second
    roles = [row[0] for row in tables(simulated)["role name model SHA-256"]]
    assert [role.endswith("simulated") for role in roles] == [False, True, True]
    assert "simulated" in ModelCard(simulated).data.tags
    assert "simulated" not in ModelCard(honest).data.tags and "made up" not in honest


@pytest.mark.parametrize("from_cache", [False, True])
def test_a_result_of_simulated_models_says_so_in_every_file(from_cache: bool, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    models = [{"model": str(tmp_path / "model"), "name": name} for name in ("target", "real", "pretended")]
    simulated = {**models[2], "engine": "simulated"}
    job, made_by = (
        Job.model_validate({"target": models[0], "sources": [models[1], source], "data": "text"})
        for source in (models[2] if from_cache else simulated, simulated)
    )
    made = Description(
        job=made_by, packages={}, models={model["name"]: {"sha256": "f00"} for model in models},
        target_tokenizer="", counts={}, num_set_aside=0, num_rows=7,
    )  # fmt: skip
    snapshot = Snapshot(outcome={"steps": 12, "best_step": None, "set_aside": []})
    describe(tmp_path, job, Cache(tmp_path, [], made) if from_cache else None, {}, snapshot, 1.0)
    for file in ("fusion.json", "metrics.json"):
        assert json.loads((tmp_path / file).read_text())["simulated"] == ["pretended"]
    assert "**pretended** did not run" in (tmp_path / "README.md").read_text()
