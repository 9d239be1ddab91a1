"""The folds by the names that a job file has for them."""

from pta_ray.config import Choice
from pta_ray.fusion.avg_ce import average
from pta_ray.fusion.candidate import Fold
from pta_ray.fusion.min_ce import better
from pta_ray.fusion.position import best_by_position

CHOICES: dict[Choice, Fold] = {"min_ce": better, "avg_ce": average, "position": best_by_position}
