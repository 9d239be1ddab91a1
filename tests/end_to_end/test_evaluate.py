"""`pta-ray evaluate` from the command line to its files, against plain calculations with transformers."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.end_to_end.test_fuse import pta_ray

DOMAINS = ("english", "python")
MODELS = ("target", "python")
CHARACTERS = 1000  # of a document: so many are read at once, whatever the tokenizer


@pytest.fixture(scope="module")
def texts(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The beginnings of some of the demo's held-out documents, by domain."""
    folder = tmp_path_factory.mktemp("texts")
    for domain in DOMAINS:
        lines = (demo / "data" / "held_out" / f"{domain}.jsonl").read_text().splitlines()[:8]
        short = [json.dumps({"text": json.loads(line)["text"][:CHARACTERS]}) for line in lines]
        (folder / f"{domain}.jsonl").write_text("\n".join(short))
    return {domain: folder / f"{domain}.jsonl" for domain in DOMAINS}


@torch.inference_mode()
def log_probability(folder: Path, prompt: str, text: str) -> float:
    """Of a text behind a prompt, as natural logarithm, in float32."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    before = [model.config.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    ids = torch.tensor([*before, *tokenizer(text, add_special_tokens=False)["input_ids"]])
    log_probs_LV = torch.log_softmax(model(ids[None], use_cache=False).logits[0], dim=-1)
    found_L = log_probs_LV[:-1].gather(1, ids[1:, None])[len(before) - 1 :]
    return float(found_L.double().sum())


@pytest.mark.slow
def test_bits_per_byte_are_those_of_a_plain_calculation(demo: Path, texts: dict[str, Path], tmp_path: Path) -> None:
    models = [demo / "models" / name for name in MODELS]
    data = [argument for path in texts.values() for argument in ("--data", path)]
    found_file, plot = tmp_path / "found.json", tmp_path / "plot.svg"
    drawn = ["--plot", plot] if importlib.util.find_spec("matplotlib") else []
    result = pta_ray("evaluate", *models, *data, "--engine", "transformers", "--json", found_file, *drawn)
    assert result.returncode == 0, result.stderr
    found = json.loads(found_file.read_text())
    for domain, path in texts.items():
        documents = [json.loads(line)["text"] for line in path.read_text().splitlines()]
        num_bytes = sum(len(text.encode()) for text in documents)
        assert found["text"][domain] == {"documents": len(documents), "windows": len(documents), "bytes": num_bytes}
        for folder in models:
            bits = -sum(log_probability(folder, "", text) for text in documents) / math.log(2)
            interval = found["bits_per_byte"][folder.name]["domains"][domain]
            assert interval["estimate"] == pytest.approx(bits / num_bytes, rel=1e-5)
            assert interval["low"] < interval["estimate"] < interval["high"]
    first, second = (found["bits_per_byte"][name] for name in MODELS)
    difference = found["differences"]["models"]["python"]
    assert found["differences"]["from"] == "target"
    assert difference["mean"]["estimate"] == pytest.approx(second["mean"]["estimate"] - first["mean"]["estimate"])
    assert difference["mean"]["low"] < difference["mean"]["high"]
    assert not drawn or plot.read_text().startswith("<?xml")
    shown = first["domains"]["english"]
    assert f"{shown['estimate']:.3f} ({shown['low']:.3f}, " in " ".join(result.stdout.split())


@pytest.mark.slow
def test_a_suite_of_tasks_is_scored_as_by_hand(demo: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    model = demo / "models" / "target"
    choices = [["    return", " zebra"], ["\n\n\n", "class"], [" self", " dog"], ["import", "\timport"]]
    questions = ["def add(a, b):\n", "x = 1", "def run(", "from pathlib "]
    answers = [0, 1, 0, 1]
    rows = zip(questions, choices, answers, strict=True)
    lines = [json.dumps({"question": q, "choices": c, "answer": a}) for q, c, a in rows]
    (tmp_path / "choice.jsonl").write_text("\n".join(lines))
    (tmp_path / "tasks").mkdir()
    task = {
        "task": "tiny_choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "choice.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "tasks" / "tiny_choice.yaml").write_text(yaml.safe_dump(task))
    suites = {
        "include_path": str(tmp_path / "tasks"),
        "suites": [
            {"name": "choice", "tasks": ["tiny_choice"], "num_fewshot": 0, "published": {"a giant": 99.5}},
            {"name": "programs", "tasks": ["humaneval"], "runs_code": True},
        ],
    }
    (tmp_path / "suites.yaml").write_text(yaml.safe_dump(suites))
    found_file = tmp_path / "found.json"
    arguments = ["--tasks", tmp_path / "suites.yaml", "--engine", "transformers", "--json", found_file]
    result = pta_ray("evaluate", model, *arguments)
    assert result.returncode == 0, result.stderr
    best = [
        max(range(2), key=lambda i, q=q, c=c: log_probability(model, q, c[i]))
        for q, c in zip(questions, choices, strict=True)
    ]
    expected = 100 * sum(b == a for b, a in zip(best, answers, strict=True)) / len(answers)
    scores = json.loads(found_file.read_text())["scores"]["target"]
    assert scores["choice"]["score"] == pytest.approx(expected) and scores["choice"]["metric"] == "acc,none"
    assert scores["programs"]["score"] is None and "--run-generated-code" in scores["programs"]["left_out"]
    assert "a giant (published)" in result.stdout and "99.50" in result.stdout and "left out" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "begin"),
    [
        (["no/such/model", "--data", "{text}"], "models.0.model: there is no model at no/such/model"),
        (["{model}", "--data", "missing.jsonl"], "--data.0.path: there is no file or directory at missing.jsonl"),
        (["{model}", "{model}", "--data", "{text}"], "models: two models are called 'model'"),
        (["{model}"], "evaluate: there is nothing to do"),
        (["{{model: {model}, engine: simulated}}", "--data", "{text}"], "models.0.engine: is simulated"),
        (
            ["{{model: {model}, engin: vllm}}", "--data", "{text}"],
            "models.0.engin: unknown key; did you mean 'engine'?",
        ),
        (["{{model: {model}", "--data", "{text}"], "MODEL: '{{model: {model}' is not a YAML mapping"),
        (["{model}", "--data", "{text}", "--window-bytes", "1"], "window_bytes: input should be greater than"),
        (["{model}", "--data", "{text}", "--json", "missing/found.json"], "missing/found.json: there is no directory"),
        (["{model}", "--tasks", "missing.yaml"], "--tasks: there is no file at missing.yaml"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(tmp_path: Path, arguments: list[str], begin: str) -> None:
    places = {"model": str(tmp_path / "model"), "text": str(tmp_path / "text.txt")}
    (tmp_path / "model").mkdir()
    for name, content in (("model/config.json", "{}"), ("model/model.safetensors", ""), ("text.txt", "words")):
        (tmp_path / name).write_text(content)
    given = [argument.format(**places) for argument in arguments]
    result = pta_ray("evaluate", *given, "--engine", "transformers")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {begin.format(**places)}")
