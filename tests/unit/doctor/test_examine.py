import json
from pathlib import Path

from pta_ray.doctor.examine import examine
from pta_ray.doctor.finding import Severity
from tests.unit.doctor.test_job import settings


def test_a_job_is_looked_at_though_its_cluster_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(json.dumps(settings(tmp_path)))
    found = list(examine(tmp_path / "job.yaml", ["data=nowhere.txt"], "127.0.0.1:9"))
    assert [f.what for f in found if f.severity is Severity.ERROR] == ["--address", "data.train.0.path"]
    # Nobody knows what the cluster has room for.
    assert "placement" not in {f.what for f in found}
