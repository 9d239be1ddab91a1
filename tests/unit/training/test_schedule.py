import pytest

from pta_ray.training.schedule import FINAL_SHARE, learning_rate


def test_it_rises_then_falls_to_its_final_share() -> None:
    rates = [learning_rate(p / 100, 2.0, 0.1) for p in range(101)]
    assert rates[0] == 0
    assert max(rates) == rates[10] == 2.0
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(2.0 * FINAL_SHARE)


def test_it_stays_at_the_end_where_sizes_were_underestimated() -> None:
    assert learning_rate(1.2, 2.0, 0.0) == learning_rate(1.0, 2.0, 0.0)
