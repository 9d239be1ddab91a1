"""Where the config.json of a job's models is read: its directory, the hub or a table of well-known ones."""

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfTime
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from pta_ray.checkpoint import check_model
from pta_ray.config import Job
from pta_ray.errors import JobError, first_line
from pta_ray.planning.architecture import Architecture, architecture_of

_CONFIG = "config.json"
_HUB_SECONDS = 1.0
_TABLE = Path(__file__).parent / "known_models.yaml"

Origin = Literal["config.json", "hub", "table of known models"]


@dataclass(frozen=True)
class Model:
    """A model of a job, as far as its configuration tells."""

    name: str
    architecture: Architecture
    origin: Origin
    """Where the configuration was found."""


def read_models(job: Job) -> list[Model]:
    """The target, then the sources. Models of the hub are asked for at once, for a second; what it does not give by
    then is looked up among well-known models.

    Raises:
        JobError: a configuration is nowhere, or of an architecture that is not known; names the field.
    """
    fields = ["target.model", *(f"sources.{i}.model" for i in range(len(job.sources)))]
    for field, model in zip(fields, job.models, strict=True):
        check_model(field, model.model, needs_weights=False)
    asked = {model.model: _ask_hub(model.model) for model in job.models if _is_of_hub(model.model)}
    _wait([*asked.values()])
    found = []
    for field, model in zip(fields, job.models, strict=True):
        config, origin = _config(field, model.model, asked.get(model.model))
        try:
            found.append(Model(model.name, architecture_of(config), origin))
        except ValueError as error:
            raise JobError(field, f"cannot plan {model.model}: {error}") from None
    return found


def _is_of_hub(model: str) -> bool:
    return not Path(model).is_dir() and ("://" not in model or model.startswith("hf://"))


def _config(field: str, model: str, asked: "Future[dict[str, Any]] | None") -> tuple[dict[str, Any], Origin]:
    if asked is None:
        return _local(field, model), "config.json"
    if asked.done() and asked.exception() is None:
        return asked.result(), "hub"
    known = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))["models"]
    name = model.removeprefix("hf://")
    if name in known:
        return known[name], "table of known models"
    error = asked.exception() if asked.done() else None
    reason = first_line(error) if error else f"no answer within {_HUB_SECONDS:g} s"
    mend = "name a directory that holds its config.json (no weights are needed), or plan where the hub can be reached"
    raise JobError(field, f"the hub does not give the configuration of {name} ({reason}); {mend}")


def _local(field: str, model: str) -> dict[str, Any]:
    try:
        if "://" in model:
            from pyarrow import fs

            system, path = fs.FileSystem.from_uri(model)
            with system.open_input_stream(f"{path}/config.json") as stream:
                text = stream.read().decode()
        else:
            text = Path(model, "config.json").read_text(encoding="utf-8")
        config = json.loads(text)
    except (OSError, ValueError) as error:
        raise JobError(field, f"cannot read {model}/config.json ({first_line(error)})") from None
    if not isinstance(config, dict):
        raise JobError(field, f"{model}/config.json holds no object")
    return config


def _ask_hub(model: str) -> "Future[dict[str, Any]]":
    """A configuration that the hub's local cache holds, or else the hub itself."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

    name, found = model.removeprefix("hf://"), Future[dict[str, Any]]()

    def ask() -> None:
        try:
            # Not by way of a download, which tries again for half a minute.
            url = hf_hub_url(name, _CONFIG)
            response = get_session().get(url, headers=build_hf_headers(), timeout=_HUB_SECONDS, follow_redirects=True)
            hf_raise_for_status(response)
            found.set_result(response.json())
        except Exception as error:
            found.set_exception(error)

    cached = try_to_load_from_cache(name, _CONFIG)
    if isinstance(cached, str):
        found.set_result(json.loads(Path(cached).read_text(encoding="utf-8")))
    else:
        # A daemon, unlike a thread of a pool: nobody waits for a name server that does not answer.
        threading.Thread(target=ask, daemon=True).start()
    return found


def _wait(asked: Sequence["Future[dict[str, Any]]"]) -> None:
    end = time.monotonic() + _HUB_SECONDS
    for future in asked:
        with suppress(OutOfTime):
            future.exception(max(end - time.monotonic(), 0))
