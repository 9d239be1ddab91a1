"""The pieces of work of the experiment. Each leaves a file and is not done again when that is there.

The seed of a run chooses the documents that are learned from and the order of their windows; the target starts from
the same weights always, as it does in use.
"""

import filecmp
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
from jobs.experiments.fusing import fuse, fused_path, fused_rows
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
    settings. What another arm has found that learns just the same is found by this one too."""
    path = _result_path(regime, arm, seed)
    if _is_made(regime, arm, seed):
        return
    pool = TextSet(folder, "fuse")
    fused = fuse(pool, ARMS[arm])
    same = next((other for other in MAIN if learn_the_same(pool, arm, other) and _is_made(regime, other, seed)), None)
    found = _read(regime, same, seed) if same else _found(folder, regime, arm, seed)
    won = json.loads(fused.with_suffix(".json").read_text())
    result = {**found, "settings": ARMS[arm].settings(), "won": won, "same_as": same}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(result, indent=1) + "\n")
    measured = result["bits_per_byte"].values()
    print(f"{regime} {arm} seed {seed}: {sum(measured) / len(measured):.4f} bits per byte", flush=True)


def learn_the_same(pool: TextSet, arm: str, other: str) -> bool:
    """Whether two arms learn in the same way from fused windows that are the same to the byte: those of `pta-paper` are
    no other than without any source where the target wins all windows."""
    mine, its = ARMS[arm], ARMS[other]
    if mine.training_settings() != its.training_settings() or "light_abstention" in (mine.change, its.change):
        return False
    paths = fused_path(pool, mine), fused_path(pool, its)
    return paths[1].exists() and filecmp.cmp(*paths, shallow=False)


def _found(folder: Path, regime: str, arm: str, seed: int) -> dict[str, Any]:
    """What a run leaves but for its settings."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    begin, settings = time.process_time(), ARMS[arm].training_settings()
    pool, held_out = TextSet(folder, "fuse"), TextSet(folder, "held_out")
    rows = fused_rows(pool, ARMS[arm])
    order = chosen_windows(pool.windows, REGIMES[regime], seed)
    tokenizer = pool.tokenizer(TARGET)
    is_of_sets = ARMS[arm].alignment_settings().targets == "intervals"
    sorted_ids_O = tokenizer.table.sorted_ids_O if is_of_sets else None
    model, losses, num_tokens = learn(
        folder / "models" / TARGET, rows, order, settings, sorted_ids_O, ARMS[arm].change == "light_abstention"
    )
    learned = time.process_time() - begin
    scores = score(model, [s.ids_L for s in held_out.scores(TARGET, 1)], TOP_K)
    return {
        "bits_per_byte": bits_per_byte(held_out, scores, tokenizer),
        "distances": distances(held_out, scores) if arm in MAIN else {},
        "num_steps": len(losses),
        "num_tokens": num_tokens,
        "losses": [round(loss, 4) for loss in losses],
        "seconds": round(learned, 1),
    }


def _result_path(regime: str, arm: str, seed: int) -> Path:
    return RESULTS / regime / arm / f"{seed}.json"


def _is_made(regime: str, arm: str, seed: int) -> bool:
    if not _result_path(regime, arm, seed).exists():
        return False
    return bool(_read(regime, arm, seed)["settings"] == ARMS[arm].settings())


def _read(regime: str, arm: str, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_result_path(regime, arm, seed).read_text())
    return found


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
