from pta_ray.doctor.finding import Severity, error, ok, refused, warning, worst
from pta_ray.errors import JobError


def test_the_worst_of_findings_is_the_gravest_whatever_the_order() -> None:
    fine, doubtful, broken = ok("a", ""), warning("b", "", ""), error("c", "", "")
    assert worst([]) is worst([fine]) is Severity.OK
    assert worst([doubtful, fine]) is Severity.WARNING
    assert worst([broken, doubtful, fine]) is worst([fine, broken]) is Severity.ERROR


def test_a_refusal_is_divided_into_what_is_wrong_and_what_mends_it() -> None:
    found = refused(JobError("output", "is taken; remove it; or choose another"))
    assert (found.what, found.detail, found.mend) == ("output", "is taken", "remove it; or choose another")
    assert "data.train.0" in refused(JobError("data.train.0", "is not there")).mend
