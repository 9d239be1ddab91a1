"""Where a model lies: a directory, a hub id or a URI; and what its files say about it."""

import hashlib
import os
from pathlib import Path
from typing import Any

from pta_ray.config import ServedModel
from pta_ray.errors import JobError

_NEEDED = ("config.json", "*.safetensors")
_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py"]


def cache_directory() -> Path:
    """Where downloads of this project are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "pta-ray"


def check_model(field: str, model: str, needs_weights: bool) -> None:
    """Refuses, without loading anything heavy or using the network, a local model that cannot be one.

    Raises:
        JobError: there is no such directory, or it lacks the configuration or safetensors weights that it needs.
    """
    if "://" in model:
        return
    path = Path(model)
    if path.is_dir():
        for pattern in _NEEDED if needs_weights else ():
            if not any(path.glob(pattern)):
                raise JobError(field, f"{model} is not a checkpoint: it holds no {pattern}")
    elif path.is_absolute() or model.startswith(".") or model.count("/") != 1:
        raise JobError(field, f"there is no model at {model}; give a directory, a hub id (owner/name) or a URI")


def local_checkpoint(model: str) -> str:
    """A directory on this host with the model's files, downloaded if need be. Weights in safetensors only.

    Raises:
        OSError: the model is not where the job says; the message is one line.
    """
    if Path(model).is_dir():
        return model
    if "://" in model and not model.startswith("hf://"):
        return _copy_from_uri(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(model.removeprefix("hf://"), allow_patterns=_PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(f"it is neither a directory nor to be had from the hub ({reason})") from None


def _copy_from_uri(uri: str) -> str:
    from pyarrow import fs

    target = cache_directory() / "models" / hashlib.sha256(uri.encode()).hexdigest()[:16]
    if not target.is_dir():
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        partial.mkdir(parents=True)
        try:
            fs.copy_files(uri, partial.as_uri())
        except (OSError, ValueError) as error:
            raise OSError(f"it cannot be copied ({error})") from None
        partial.rename(target)
    return str(target)


def has_configuration(model: ServedModel, checkpoint: str) -> bool:
    """Whether a configuration tells of the model; a simulated one need not have any."""
    return model.engine != "simulated" or (Path(checkpoint) / "config.json").is_file()


def max_positions(checkpoint: str, trust_remote_code: bool) -> int:
    """The longest sequence that the model was made for."""
    config = _text_config(checkpoint, trust_remote_code)
    return int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", 0) or 1 << 20)


def check_vocabulary(field: str, checkpoint: str, tokenizer_size: int, trust_remote_code: bool) -> None:
    """Refuses a model whose tokenizer has ids that its embeddings have no row for: reading one ends the engine.

    Args:
        field: of the job, that names the model.
        tokenizer_size: the highest id that a sequence may hold + 1. A wider model is padded, as many are.

    Raises:
        JobError: the model is narrower; names both sizes.
    """
    model_size = int(_text_config(checkpoint, trust_remote_code).vocab_size)
    if model_size < tokenizer_size:
        raise JobError(
            field,
            f"its tokenizer has ids up to {tokenizer_size - 1}, but the model only knows those up to {model_size - 1}; "
            "take the tokenizer that belongs to the checkpoint, without tokens added later, or resize the model's "
            "embeddings (transformers: resize_token_embeddings)",
        )


def _text_config(checkpoint: str, trust_remote_code: bool) -> Any:
    """The part of a model's configuration that is about text."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code).get_text_config()


def fingerprint(checkpoint: str) -> str:
    """SHA-256 over configuration, tokenizer and weights, file by file in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(Path(checkpoint).iterdir()):
        if path.suffix in {".json", ".safetensors", ".model"}:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
