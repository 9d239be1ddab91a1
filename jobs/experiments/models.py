"""The experiment's models: a small target, two specialists for a domain each, and SmolLM2-135M-Instruct.

The specialists have other tokenizers and architectures than the target, and have not read the text that the target
learns from when fused.
"""

import os
from pathlib import Path

from jobs.demo.models import Recipe, make_model
from jobs.demo.vocabularies import LINE_WORDS, Vocabulary
from jobs.experiments.text import DOMAINS

_SPECIALIST = {"hidden": 256, "layers": 6, "heads": 4}
"""More than 6 million parameters."""
_PYTHON = Vocabulary("byte-level", 6144)

RECIPES = {
    "python": Recipe("llama", _PYTHON, ("rest/python",), steps=1400, **_SPECIALIST),
    "german": Recipe("gpt_neox", Vocabulary("metaspace", 6144), ("rest/german",), steps=1400, **_SPECIALIST),
    "target": Recipe(
        "qwen3",
        Vocabulary("byte-level", 4000, LINE_WORDS),
        ("target/english", "target/python", "target/german"),
        steps=400,
    ),
    # As the specialist for Python, but hardly trained: a source that is worse than the target everywhere.
    "bad": Recipe("llama", _PYTHON, ("rest/python",), steps=30, **_SPECIALIST),
}

TARGET, SMOLLM2, BAD = "target", "smollm2", "bad"
SOURCES = ("python", "german", SMOLLM2)
MODELS = (TARGET, *SOURCES, BAD)


def make(name: str, folder: Path) -> None:
    """Trains and measures one model, unless it is there."""
    if (folder / "models" / name).exists():
        return
    # Saving a model imports DeepSpeed where it is installed, which then looks for accelerators and warns.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if name == SMOLLM2:
        from jobs.demo.smollm2 import convert

        convert(folder / "models" / name)
    else:
        make_model(name, RECIPES[name], DOMAINS, folder / "data", folder / "models")
