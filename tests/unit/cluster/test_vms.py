"""The file for Ray's cluster launcher."""

import yaml
from ray.autoscaler._private.util import fillout_defaults, validate_config

from pta_ray.job_file import load_job
from pta_ray.placement import check_fit, place
from tests.unit.cluster.manifests import CLUSTER, PROJECT, ROOT, Manifest

VMS = CLUSTER / "vms"


def launcher_file() -> Manifest:
    found: Manifest = yaml.safe_load((VMS / "cluster.yaml").read_text())
    return found


def test_rays_launcher_takes_the_file() -> None:
    validate_config(fillout_defaults(launcher_file()))


def test_ray_asks_for_a_token_and_is_not_reached_from_outside() -> None:
    found = launcher_file()
    assert "--env=RAY_AUTH_MODE=token" in found["docker"]["run_options"]
    assert found["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    assert found["provider"]["use_internal_ips"] is True
    assert "--dashboard-host=127.0.0.1" in " ".join(found["head_start_ray_commands"])
    assert found["docker"]["image"] == f"registry.example.com/pta-ray:{PROJECT['version']}-cuda"


def test_spot_machines_score_others_train_and_the_recipe_fits() -> None:
    types = launcher_file()["available_node_types"]
    market = {
        name: kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType") for name, kind in types.items()
    }
    assert market == {"head": None, "cpu": None, "score": "spot", "train": None}
    placement = place(load_job(ROOT / "jobs" / "cluster-8-gpus.yaml", []), has_gpus=True)
    check_fit(placement, [kind["resources"] for kind in types.values() for _ in range(kind.get("max_workers", 0))])
    assert types["train"]["resources"]["train"] >= placement.training.most
    assert sum(kind.get("max_workers", 0) for kind in types.values()) <= launcher_file()["max_workers"]


def test_prometheus_reads_what_ray_writes() -> None:
    [job] = yaml.safe_load((VMS / "prometheus.yml").read_text())["scrape_configs"]
    assert job["file_sd_configs"] == [{"files": ["/tmp/ray/prom_metrics_service_discovery.json"]}]
