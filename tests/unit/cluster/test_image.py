"""The container image's files: linted, pinned, and in step with the package."""

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.unit.cluster.manifests import CLUSTER, PROJECT

IMAGE = CLUSTER / "image"
DOCKERFILE = (IMAGE / "Dockerfile").read_text()


@pytest.mark.parametrize("harmful", ["", "USER root\n", "RUN sudo true\n", "FROM debian:latest\n"])
def test_hadolint_finds_nothing_but_what_is_wrong(harmful: str) -> None:
    hadolint = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert hadolint, "install the extra `dev`"
    found = subprocess.run(
        [hadolint, "--failure-threshold", "info", "-"], input=DOCKERFILE + harmful, capture_output=True, text=True
    )
    assert bool(found.returncode) == bool(harmful), found.stdout


def test_the_image_runs_as_the_user_that_the_manifests_name() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["1000:1000"]
    assert "useradd --uid 1000" in DOCKERFILE
    assert f"pta-ray:{PROJECT['version']}-cuda" in DOCKERFILE


def test_everything_that_the_package_asks_for_is_pinned_to_one_version() -> None:
    lines = [line for line in (IMAGE / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.lower().replace("_", "-").split("==") for line in lines)
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["lora"]]
    names = {re.split(r"[\[=~<> ]", entry)[0].lower().replace("_", "-") for entry in wanted}
    assert names - pinned.keys() == set()
    for entry in wanted:
        name, exact, version = entry.partition("==")
        if exact and "*" not in version:
            assert pinned[name.split("[")[0].lower()] == version


def test_the_tests_run_with_what_the_image_holds() -> None:
    lines = [line for line in (IMAGE / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    for name in ("ray", "torch", "transformers", "deepspeed", "pyarrow", "numpy", "safetensors"):
        assert f"{name}=={metadata.version(name).split('+')[0]}" in lines
