"""Does a Ray cluster let this machine in, and is it of the same version?

Ray's own `ray.init` tries for minutes, or ends the process, where this asks and gets an answer in a moment: its control
store, to which the address leads, tells versions and hosts to anyone with the right token.
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pta_ray.doctor.finding import Finding, error, ok
from pta_ray.errors import JobError, first_line


@dataclass(frozen=True)
class Cluster:
    """What a cluster says of itself."""

    ray: str
    """The version of Ray that it runs."""
    python: str
    """And of Python."""
    hosts: list[dict[str, float]]
    """Resources of every host that is alive."""


def ask_cluster(address: str) -> Cluster:
    """Asks the control store of a cluster.

    Args:
        address: `HOST:PORT` of its head, or `auto`.

    Raises:
        JobError: nobody answers there, or not without a token; names the mend.
    """
    import ray
    from ray._common.usage.usage_lib import get_cluster_metadata
    from ray._private import services
    from ray._private.authentication.authentication_token_setup import (
        ensure_token_if_auth_enabled,
        maybe_enable_token_auth_if_token_available,
    )
    from ray.core.generated.gcs_pb2 import GcsNodeInfo
    from ray.exceptions import AuthenticationError

    from pta_ray.session import check_reachable, noise_to_file, token_wanted

    if "://" in address:
        raise JobError(
            "--address", f"{address} is of another kind; give HOST:PORT of the head, as ray start printed it"
        )
    try:
        check_reachable(address)
        with noise_to_file(Path(os.devnull)):  # Ray's compiled parts write there what they raise as well
            # As ray.init does; without a token Ray's compiled parts would end this process.
            if address == "auto":
                maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
            ensure_token_if_auth_enabled(create_token_if_missing=False)
            client = ray._raylet.GcsClient(address=services.canonicalize_bootstrap_address_or_die(address))
            versions = get_cluster_metadata(client)
            alive = [node for node in client.get_all_node_info().values() if node.state == GcsNodeInfo.ALIVE]
    except AuthenticationError:
        raise token_wanted(address) from None
    except (OSError, ValueError, RuntimeError) as problem:
        detail = f"there is no Ray cluster to be reached at {address} ({first_line(problem)})"
        raise JobError(
            "--address", f"{detail}; start its head with ray start --head, or look at the firewall"
        ) from None
    hosts = [{kind: float(amount) for kind, amount in node.resources_total.items()} for node in alive]
    return Cluster(versions["ray_version"], versions["python_version"], hosts)


def check_cluster(cluster: Cluster, ray: str, python: str) -> Iterator[Finding]:
    """Ray and Python are the same here and there: Ray refuses to join otherwise.

    Args:
        ray: its version here.
        python: its version here, of which the patch release counts too.
    """
    cpus, gpus = (sum(host.get(kind, 0.0) for host in cluster.hosts) for kind in ("CPU", "GPU"))
    yield ok("cluster", f"{len(cluster.hosts)} hosts, {cpus:g} CPUs, {gpus:g} GPUs")
    mends = {
        "Ray": f"pip install 'ray[data,train,default]=={cluster.ray}' here, or start the cluster with {ray}",
        "Python": f"use Python {cluster.python} here, or start the cluster with {python}",
    }
    for name, there, here in (("Ray", cluster.ray, ray), ("Python", cluster.python, python)):
        if there == here:
            yield ok(f"{name} of the cluster", there)
        else:
            yield error(f"{name} of the cluster", f"is {there} there and {here} here", mends[name])


def find_cluster(cluster: Cluster) -> Iterator[Finding]:
    """Compares a cluster with this machine."""
    import ray

    return check_cluster(cluster, ray.__version__, platform.python_version())
