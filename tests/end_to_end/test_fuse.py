"""`pta-ray fuse` from a job file to a checkpoint, with every real component."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from pta_ray.job_file import load_job
from tests.conftest import in_new_process
from tests.oracles.held_out import of_result
from tests.unit.run_report.packed import report_in

SETTINGS = {"learning_rate": 1e-3, "warmup": 0.1, "batch_windows": 8, "micro_batch_windows": 4}
SECRETS = {
    name: f"not-to-be-written-down-{name}"
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "WANDB_API_KEY", "RAY_AUTH_TOKEN")
}
HOSTILE = ["", " ", "x", "\0\0\0", "=" * (1 << 20), "👍🏽👨‍👩‍👧" * 50, "e\u0301" * 200, "<|endoftext|></s>", "\u2581 ▁"]


def write_job(folder: Path, demo: Path, **changes: object) -> Path:
    """A job over a little of the demo's text."""
    (folder / "text").mkdir(exist_ok=True)
    for domain in ("python", "translations"):
        lines = (demo / "data" / "fuse" / f"{domain}.jsonl").read_text().splitlines()[:6]
        (folder / "text" / f"{domain}.jsonl").write_text("\n".join(lines))
    job = {
        "target": str(demo / "models" / "target"),
        "sources": [str(demo / "models" / "python"), str(demo / "models" / "translations")],
        "data": {
            "train": [str(folder / "text" / "python.jsonl"), str(folder / "text" / "translations.jsonl")],
            "held_out": [str(demo / "data" / "held_out" / "python.jsonl")],
            "window_tokens": 128,
        },
        "training": SETTINGS,
        "output": str(folder / "fused"),
        **changes,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def soon_started(demo: Path, *sources: str) -> dict[str, Any]:
    """The models of a job on engines that start sooner than vLLM."""
    target, *rest = [{"model": str(demo / "models" / name), "engine": "transformers"} for name in ("target", *sources)]
    return {"target": target, "sources": rest}


def pta_ray(*arguments: str | Path, timeout: float = 500) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pta_ray.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def fused(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The result of one run, with secrets in its environment, and what it printed."""
    folder = tmp_path_factory.mktemp("fuse")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        result = pta_ray("fuse", write_job(folder, demo))
    assert result.returncode == 0, result.stderr
    return folder / "fused", result.stdout


def test_the_loss_falls_and_the_target_learns(fused: tuple[Path, str]) -> None:
    metrics = json.loads((fused[0] / "metrics.json").read_text())
    losses = [loss for _, loss in metrics["training"]["losses"]]
    assert len(losses) >= 8
    assert sum(losses[-3:]) < sum(losses[:3])
    assert metrics["bits_per_byte"]["fused"]["python"] < metrics["bits_per_byte"]["target"]["python"]
    assert metrics["bits_per_byte"]["python"]["python"] < metrics["bits_per_byte"]["translations"]["python"]


def test_the_checkpoint_is_what_was_measured(fused: tuple[Path, str]) -> None:
    metrics = json.loads((fused[0] / "metrics.json").read_text())
    assert in_new_process(of_result, fused[0]) == pytest.approx(metrics["bits_per_byte"]["fused"], rel=1e-4)


def test_every_window_was_scored_aligned_and_learned_once(fused: tuple[Path, str]) -> None:
    metrics = json.loads((fused[0] / "metrics.json").read_text())
    stages = metrics["stages"]
    rows = {stages[name]["rows"] for name in ("score target", "score python", "score translations", "align")}
    assert len(rows) == 1
    assert 0 < stages["train"]["rows"] == metrics["training"]["num_windows"] < rows.pop()
    assert stages["train"]["rows"] == sum(n for name, n in metrics["counts"].items() if name.startswith("won/"))


def test_the_winners_are_the_specialists(fused: tuple[Path, str]) -> None:
    counts = json.loads((fused[0] / "metrics.json").read_text())["counts"]
    assert counts["won/translations/translations"] > counts.get("won/translations/target", 0)
    assert counts["won/python/python"] > counts.get("won/python/translations", 0)


def test_the_result_says_what_made_it(fused: tuple[Path, str]) -> None:
    folder, printed = fused
    fusion = json.loads((folder / "fusion.json").read_text())
    assert set(fusion["models"]) == {"target", "python", "translations"}
    assert all(len(model["sha256"]) == 64 for model in fusion["models"].values())
    assert fusion["packages"]["ray"]
    assert load_job(folder / "job.yaml", []).alignment.top_k == 10
    assert "bits per byte" in printed and "fused" in printed
    assert not (folder / ".ray").exists()
    assert not folder.with_name("fused.partial").exists()


def test_the_report_shows_what_was_measured(fused: tuple[Path, str]) -> None:
    metrics = json.loads((fused[0] / "metrics.json").read_text())
    report = report_in(fused[0] / "report.html")
    training = metrics["training"]
    assert report.bits_per_byte == metrics["bits_per_byte"] and report.losses == [tuple(p) for p in training["losses"]]
    assert report.bits_curves["python"][0] == (0, metrics["bits_per_byte"]["target"]["python"])
    assert len(report.learning_rates) == training["steps"] and report.alignment == metrics["alignment"]
    assert [stage.name for stage in report.stages] == list(metrics["stages"]) and report.bottleneck
    assert sum(sum(by.values()) for by in report.won.values()) == training["num_windows"]
    assert report.representations
    assert report.representations.after.compactness == training["representations"]["after"]["compactness"]
    assert 0 < report.representations.after.compactness != report.representations.before.compactness < 1


def test_no_secret_of_the_environment_is_printed_or_written_down(fused: tuple[Path, str]) -> None:
    folder, printed = fused
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {folder / "fuse.log", folder / "fusion.json"} <= written.keys()
    for secret in SECRETS.values():
        assert secret not in printed
        assert [path.name for path, content in written.items() if secret.encode() in content] == []


def test_noise_goes_to_the_log_and_not_over_the_display(fused: tuple[Path, str]) -> None:
    for line in fused[1].splitlines():
        assert not any(word in line for word in ("WARNING", "INFO", "DEBUG", "Traceback"))


def test_transformers_loads_the_checkpoint_and_generates(fused: tuple[Path, str]) -> None:
    folder = str(fused[0])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("def add(", return_tensors="pt").input_ids
    generated = model.generate(ids, max_new_tokens=12, do_sample=False)
    assert generated.shape[1] > ids.shape[1] and tokenizer.decode(generated[0])


def generate_with_vllm(folder: str) -> list[int]:
    from vllm import LLM, SamplingParams

    import pta_ray.sources.vllm_engine  # noqa: F401  sets the environment that vLLM reads

    llm = LLM(model=folder, dtype="float32", enforce_eager=True, max_model_len=128)
    [output] = llm.generate(["def add("], SamplingParams(max_tokens=12, temperature=0), use_tqdm=False)
    return list(output.outputs[0].token_ids)


def test_vllm_loads_the_checkpoint_and_generates(fused: tuple[Path, str]) -> None:
    assert in_new_process(generate_with_vllm, str(fused[0]))


def test_the_checkpoint_differs_from_the_target_in_its_weights_only(fused: tuple[Path, str], demo: Path) -> None:
    with (
        safe_open(fused[0] / "model.safetensors", "pt") as after,
        safe_open(demo / "models" / "target" / "model.safetensors", "pt") as before,
    ):
        assert set(after.keys()) == set(before.keys())
        assert all(after.get_tensor(key).shape == before.get_tensor(key).shape for key in before.keys())  # noqa: SIM118
        assert any(not after.get_tensor(key).equal(before.get_tensor(key)) for key in before.keys())  # noqa: SIM118


def test_a_taken_output_is_refused_and_left_alone(fused: tuple[Path, str]) -> None:
    before = sorted((path.name, path.stat().st_mtime) for path in fused[0].iterdir())
    result = pta_ray("fuse", fused[0].parent / "job.yaml")
    assert result.returncode == 2 and result.stderr.startswith("error: output:")
    assert sorted((path.name, path.stat().st_mtime) for path in fused[0].iterdir()) == before


def test_windows_longer_than_the_targets_context_are_refused(demo: Path, tmp_path: Path) -> None:
    result = pta_ray("fuse", write_job(tmp_path, demo), "--set", "data.window_tokens=4096")
    assert result.returncode == 2
    assert result.stderr == "error: data.window_tokens: target reads 1023 tokens at most; choose that or less\n"
    assert not list(tmp_path.glob("fused*"))


@pytest.mark.slow
def test_weights_that_cannot_be_loaded_end_the_run_in_one_line(demo: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(demo / "models" / "python", broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    result = pta_ray("fuse", write_job(tmp_path, demo, sources=[str(broken)]))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "fused").exists()
    assert (tmp_path / "fused.partial" / "fuse.log").exists()


@pytest.mark.slow
def test_hostile_text_survives_on_both_engines(demo: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"text": text}).encode() for text in ["A sound document.", *HOSTILE]]
    lines += [b"{broken", b'{"text": 7}', b'{"text": "\xff\xfe"}', b'{"text": "half \\ud83d"}', b'{"text": null}']
    (tmp_path / "hostile.jsonl").write_bytes(b"\n".join(lines))
    data = {"train": [str(tmp_path / "hostile.jsonl")], "window_tokens": 512}
    sources = [{"model": str(demo / "models" / "python"), "engine": "transformers", "replicas": 2}]
    result = pta_ray("fuse", write_job(tmp_path, demo, sources=sources, data=data))
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "fused" / "metrics.json").read_text())
    stages = metrics["stages"]
    assert len(metrics["set_aside"]) == 2
    assert 100 < stages["train"]["rows"] == metrics["training"]["num_windows"] == stages["align"]["rows"]
