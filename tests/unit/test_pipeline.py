"""How large the blocks of the stream are."""

from hypothesis import given
from hypothesis import strategies as st

from pta_ray.config import Job
from pta_ray.pipeline import windows_per_block

MEBIBYTE = 1 << 20


def make_job(num_sources: int, window_tokens: int, top_k: int) -> Job:
    sources = [f"a/{i}" for i in range(num_sources)]
    data = {"train": "text", "window_tokens": window_tokens}
    return Job.model_validate({"target": "a/target", "sources": sources, "data": data, "alignment": {"top_k": top_k}})


@given(st.integers(1, 40), st.integers(16, 1 << 16), st.integers(1, 128))
def test_a_block_is_as_large_as_it_may_be(num_sources: int, window_tokens: int, top_k: int) -> None:
    """4 to 32 windows, and between these as many as 32 MiB hold: of every model a token and its probability in 4 bytes
    each, and its candidates in 4 and 2."""
    found = windows_per_block(make_job(num_sources, window_tokens, top_k))
    window_bytes = (num_sources + 1) * window_tokens * (8 + 6 * top_k)
    assert 4 <= found <= 32
    assert found == 4 or found * window_bytes <= 32 * MEBIBYTE
    assert found == 32 or (found + 1) * window_bytes > 32 * MEBIBYTE


def test_usual_jobs_have_blocks_of_the_largest_number_of_windows() -> None:
    assert windows_per_block(make_job(num_sources=3, window_tokens=1024, top_k=10)) == 32
    assert windows_per_block(make_job(num_sources=32, window_tokens=2048, top_k=10)) < 32
