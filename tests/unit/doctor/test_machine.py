"""What is said of figures of machines that are not this one."""

import resource
from pathlib import Path

import pytest

from pta_ray.doctor import machine
from pta_ray.doctor.finding import Severity
from pta_ray.doctor.machine import (
    check_devices,
    check_disk,
    check_memory,
    check_open_files,
    check_shared_memory,
    check_socket_path,
    existing_parent,
    find_machine,
    ray_directory,
)


def test_a_container_has_no_more_memory_than_its_limit() -> None:
    assert check_memory(64e9, None).severity is Severity.OK
    found = check_memory(64e9, 2e9)
    assert found.severity is Severity.WARNING and "2.0 GB" in found.detail
    assert check_memory(3e9, 64e9).severity is Severity.WARNING


def test_the_shared_memory_of_an_ordinary_container_is_too_small() -> None:
    found = check_shared_memory(64 << 20)
    assert found.severity is Severity.WARNING and "--shm-size" in found.mend
    assert check_shared_memory(8e9).severity is Severity.OK


def test_a_disk_counts_as_full_where_ray_takes_it_for_full() -> None:
    assert check_disk("/tmp", 50e9, 0.949).severity is Severity.OK
    assert check_disk("/tmp", 50e9, 0.951).severity is Severity.WARNING


@pytest.mark.parametrize(("limit", "severity"), [(1024, Severity.WARNING), (4096, Severity.OK)])
def test_few_open_files_are_few_actors(limit: int, severity: Severity) -> None:
    assert check_open_files(limit).severity is severity
    assert check_open_files(resource.RLIM_INFINITY).severity is Severity.OK


def test_a_temporary_directory_can_be_too_long_for_sockets() -> None:
    session = "/session_2026-11-23_05-02-00_510300_1133821/sockets/plasma_store"
    longest = Path("/" + "x" * (107 - len(session) - len("//ray")), "ray")
    assert len(f"{longest}{session}") == 107
    assert check_socket_path(longest).severity is Severity.OK
    found = check_socket_path(longest.with_name("ray2"))
    assert found.severity is Severity.ERROR and "108 bytes" in found.detail


def test_rays_directory_follows_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._common.utils import get_default_ray_temp_dir

    for name, value in (("TMPDIR", "/scratch"), ("RAY_TMPDIR", "/fast")):
        monkeypatch.setenv(name, value)
        assert str(ray_directory()) == get_default_ray_temp_dir() == f"{value}/ray"


def test_devices_are_listed() -> None:
    assert "no GPU" in check_devices(2, []).detail
    assert "H100" in check_devices(2, ["NVIDIA H100, 81559 MiB"]).detail


def test_a_directory_that_is_not_there_yet_lies_on_the_disk_of_the_one_above(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert existing_parent(tmp_path / "a" / "b") == existing_parent(tmp_path) == tmp_path
    assert existing_parent(tmp_path / "file" / "b") == tmp_path


def test_gpus_are_those_that_the_driver_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == []
    tool = tmp_path / "nvidia-smi"
    for script, expected in (("echo 'NVIDIA L4, 23034 MiB'", ["NVIDIA L4, 23034 MiB"]), ("echo failed; exit 9", [])):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        assert machine.gpus() == expected


def test_everything_is_looked_at_once() -> None:
    names = [finding.what for finding in find_machine([])]
    assert len(names) == len(set(names)) and {"memory", "devices", "open files"} <= set(names)
