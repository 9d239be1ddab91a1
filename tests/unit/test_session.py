"""The Ray session of a run on one machine."""

import os
from pathlib import Path

import ray

from pta_ray.session import ray_session
from tests.unit.own_driver import own_driver


def start_and_end() -> None:
    @ray.remote(num_cpus=0)
    def environment() -> tuple[str | None, dict[str, object]]:
        return os.environ.get("MALLOC_ARENA_MAX"), dict(ray.get_runtime_context().runtime_env)

    with ray_session(None, local_cpus=3.5) as hosts:
        [host] = hosts
        assert host["CPU"] == 4
        # A runtime environment would have every worker import Ray twice.
        assert ray.get(environment.remote()) == ("1", {})
        logs = Path(ray._private.worker._global_node.get_session_dir_path())
        assert logs.exists()
    assert not ray.is_initialized() and not logs.exists()


def test_workers_inherit_their_environment_and_no_logs_are_left() -> None:
    with own_driver() as driver:
        driver.submit(start_and_end).result()
