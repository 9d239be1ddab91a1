"""What a report's page holds. Imports no numba, which a process that vLLM shall run in must not load first."""

import base64
import gzip
import re
from pathlib import Path

from pta_ray.run_report.model import Report


def report_in(page: Path) -> Report:
    """What a browser unpacks."""
    match = re.search(r'<script type="text/plain" id="data">([A-Za-z0-9+/=]+)</script>', page.read_text())
    assert match
    return Report.model_validate_json(gzip.decompress(base64.b64decode(match[1])))
