import json

import numpy as np
import pyarrow as pa

from pta_ray.ledger import Ledger
from pta_ray.training.progress import Progress


def make_rows(first: int, num_rows: int) -> pa.Table:
    rows = np.arange(first, first + num_rows, dtype=np.int32)
    return pa.table(
        {
            "window_id": [str(row) for row in rows],
            "domain": ["code"] * num_rows,
            "winner": ["coder" if row % 2 else "target" for row in rows],
            "task": np.zeros(num_rows, np.int32),
            "row": rows,
            "ends_task": np.zeros(num_rows, np.bool_),
        }
    )


def test_windows_that_were_set_aside_are_done_with_but_nobody_has_won_them() -> None:
    progress = Progress()
    progress.learn(make_rows(0, 5), ["1", "2"])
    assert progress.ledger.num_windows == 5
    assert progress.won == {"won/code/target": 2, "won/code/coder": 1}


def test_windows_that_never_came_are_done_with_too() -> None:
    progress, rows = Progress(), make_rows(0, 5)
    winners = pa.array([None, "coder", None, None, "target"], pa.string())
    progress.learn(rows.set_column(rows.column_names.index("winner"), "winner", winners), ["4"])
    assert progress.ledger.num_windows == 5
    assert progress.won == {"won/code/coder": 1}
    assert progress.set_aside == []


def test_it_comes_back_from_json_as_it_was() -> None:
    progress = Progress(
        step=7, share=0.5, losses=[(1, 2.5)], learning_rates=[(1, 1e-3)], num_positions=30, num_padding=10
    )
    progress.learn(make_rows(0, 4), [])
    progress.validations.append((5, {"code": 1.5}))
    progress.best.update(5, 1.5)
    kept = json.loads(json.dumps(progress.to_json()))
    ledger = Ledger.from_table(progress.ledger.to_table())
    again = Progress.from_json(kept, ledger)
    assert again.to_json() == progress.to_json() and again.run_id == progress.run_id
    assert again.summary() == progress.summary() and again.padding_share == 0.25
    again.learn(make_rows(4, 1), [])
    assert again.won["won/code/target"] == 3
