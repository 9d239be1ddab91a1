"""The pieces of work of the experiment. Each leaves a file and is not done again when that is there.

The seed of a run chooses the documents that are learned from and the order of their windows; the target starts from
the same weights always, as it does in use.
"""

import json
import random
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from jobs.demo.files import write_atomically
from jobs.experiments.arms import ARMS, MAIN, REGIMES, Regime
from jobs.experiments.fusing import fuse, fused_rows
from jobs.experiments.learning import learn, score
from jobs.experiments.measuring import TOP_K, bits_per_byte, distances
from jobs.experiments.models import MODELS, TARGET
from jobs.experiments.results import RESULTS
from jobs.experiments.windows import TextSet, Window

SETS = ("fuse", "held_out")


def cut_text(folder: Path) -> None:
    """Cuts all sets of documents into windows."""
    for name in SETS:
        TextSet(folder, name).cut()


def score_text(folder: Path, name: str, model: str) -> None:
    """Has a model score the windows of a set of documents."""
    torch.set_num_threads(1)
    TextSet(folder, name).score(model)


def measure_models(folder: Path) -> None:
    """Writes what the models are and what they achieve on the held-out text, to `results/models.json`."""
    held_out, found = TextSet(folder, "held_out"), {}
    for model in MODELS:
        tokenizer = held_out.tokenizer(model)
        found[model] = {
            "parameters": AutoModelForCausalLM.from_pretrained(folder / "models" / model).num_parameters(),
            "vocabulary": tokenizer.table.size,
            "bits_per_byte": bits_per_byte(held_out, held_out.scores(model, 1), tokenizer),
        }
    found[TARGET]["distances"] = distances(held_out, held_out.scores(TARGET, TOP_K))
    RESULTS.mkdir(exist_ok=True)
    write_atomically(RESULTS / "models.json", json.dumps(found, indent=1) + "\n")


def fuse_arm(folder: Path, arm: str) -> None:
    """Makes the fused windows of an arm."""
    fuse(TextSet(folder, "fuse"), ARMS[arm])


def run(folder: Path, regime: str, arm: str, seed: int) -> None:
    """Has the target learn as an arm does, and measures it on the held-out text, unless that was done with the same
    settings."""
    path = RESULTS / regime / arm / f"{seed}.json"
    if path.exists() and json.loads(path.read_text())["settings"] == ARMS[arm].settings():
        return
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    begin, settings = time.monotonic(), ARMS[arm].training_settings()
    pool, held_out = TextSet(folder, "fuse"), TextSet(folder, "held_out")
    rows = fused_rows(pool, ARMS[arm])
    order = chosen_windows(pool.windows, REGIMES[regime], seed)
    tokenizer = pool.tokenizer(TARGET)
    is_of_sets = ARMS[arm].alignment_settings().targets == "intervals"
    sorted_ids_O = tokenizer.table.sorted_ids_O if is_of_sets else None
    model, losses, num_tokens = learn(
        folder / "models" / TARGET, rows, order, settings, sorted_ids_O, ARMS[arm].change == "light_abstention"
    )
    learned = time.monotonic() - begin
    scores = score(model, [s.ids_L for s in held_out.scores(TARGET, 1)], TOP_K)
    measured = bits_per_byte(held_out, scores, tokenizer)
    result: dict[str, Any] = {
        "settings": ARMS[arm].settings(),
        "bits_per_byte": measured,
        "distances": distances(held_out, scores) if arm in MAIN else {},
        "num_steps": len(losses),
        "num_tokens": num_tokens,
        "losses": [round(loss, 4) for loss in losses],
        "seconds": round(learned, 1),
        "won": json.loads(fuse(pool, ARMS[arm]).with_suffix(".json").read_text()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(result, indent=1) + "\n")
    print(f"{regime} {arm} seed {seed}: {sum(measured.values()) / len(measured):.4f} bits per byte", flush=True)


def chosen_windows(windows: list[Window], regime: Regime, seed: int) -> list[int]:
    """Which windows are learned from, in which order: of each domain those of some documents, as many as the regime
    has, in every epoch in another order."""
    generator = random.Random(seed)
    by_domain: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, window in enumerate(windows):
        by_domain[window.domain][window.document].append(number)
    chosen: list[int] = []
    for documents in by_domain.values():
        total, taken = sum(map(len, documents.values())), 0
        for name in generator.sample(sorted(documents), len(documents)):
            if taken >= regime.share * total:
                break
            chosen += documents[name]
            taken += len(documents[name])
    order = []
    for _ in range(regime.epochs):
        order += generator.sample(chosen, len(chosen))
    return order
