"""Can a model be had that lies elsewhere, on the hub or in an object store? Asks for names of files, and loads none."""

from pathlib import Path

from pta_ray.errors import JobError, first_line

_SECONDS = 10  # that the hub may take to answer


def is_remote(model: str) -> bool:
    """Whether its name leads away from this machine."""
    return "://" in model or not (Path(model).is_absolute() or model.startswith(".") or Path(model).is_dir())


def check_remote(field: str, model: str) -> None:
    """Refuses a model that cannot be had from where it lies.

    Raises:
        JobError: names the field and the mend.
    """
    if "://" in model and not model.startswith("hf://"):
        files = _files_at(field, model)
    else:
        files = _files_on_hub(field, model.removeprefix("hf://"))
    if "config.json" not in files:
        raise JobError(field, f"{model} holds no config.json; name the checkpoint itself")
    if not any(file.endswith(".safetensors") for file in files):
        mend = "convert its weights (transformers: save_pretrained) and name that directory"
        raise JobError(field, f"{model} holds no weights in safetensors, the only ones that are loaded; {mend}")


def _files_on_hub(field: str, repository: str) -> set[str]:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        hub = HfApi()
        found = hub.model_info(repository, timeout=_SECONDS).siblings or []
        hub.auth_check(repository)
        return {file.rfilename for file in found}
    except GatedRepoError:
        mend = f"ask for access at https://huggingface.co/{repository}, then hf auth login, or set HF_TOKEN"
        raise JobError(field, f"{repository} is gated, and this account may not read it; {mend}") from None
    except RepositoryNotFoundError:
        mend = "mend the name; if the model is private, hf auth login, or set HF_TOKEN"
        raise JobError(field, f"the hub has no {repository} that this account may see; {mend}") from None
    except Exception as problem:  # of the transport, which has changed its classes before
        reason = first_line(problem)
    try:
        kept = Path(snapshot_download(repository, local_files_only=True))
    except LocalEntryNotFoundError:
        mend = "look at the network, HF_ENDPOINT and HF_HUB_OFFLINE, or name a directory"
        raise JobError(field, f"the hub does not answer about {repository} ({reason}); {mend}") from None
    return {file.name for file in kept.iterdir()}


def _files_at(field: str, uri: str) -> set[str]:
    from pyarrow import fs

    try:
        system, path = fs.FileSystem.from_uri(uri)
        return {str(info.base_name) for info in system.get_file_info(fs.FileSelector(path))}
    except (OSError, ValueError) as problem:
        mend = "mend the address, or set the credentials where the store looks for them"
        raise JobError(field, f"cannot read {uri} ({first_line(problem)}); {mend}") from None
