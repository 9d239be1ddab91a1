"""Scoring with vLLM: flat prompt log-probabilities from an engine in this very process."""

import logging
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from pta_ray.config import ServedModel
from pta_ray.distributions import Scores
from pta_ray.sources.engine import is_out_of_memory

# Read when vLLM is imported. In-process: a Ray actor is a process of its own already (and starts 4 times as fast).
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; prompts are scored once and then forgotten
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # Ray decides which cores an actor shares
if not torch.cuda.is_available():
    # Eager mode still compiles one small kernel with the C++ compiler, for seconds in every process.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

from vllm import LLM, SamplingParams
from vllm.logprobs import FlatLogprobs
from vllm.platforms import current_platform

_GPU_MEMORY_SHARE = 0.9  # of what the model's part of a GPU has


class VllmEngine:
    """One vLLM engine. bfloat16 on GPUs as the checkpoint says, float32 on CPUs, where bfloat16 is slow."""

    def __init__(self, settings: ServedModel, checkpoint: str, max_tokens: int, top_k: int) -> None:
        self._llm = LLM(
            model=checkpoint,
            dtype="float32" if current_platform.is_cpu() else "auto",
            load_format="safetensors",
            trust_remote_code=settings.trust_remote_code,
            tensor_parallel_size=settings.tensor_parallel,
            pipeline_parallel_size=settings.pipeline_parallel,
            distributed_executor_backend="ray" if settings.num_gpus_spread > 1 else None,
            enforce_eager=current_platform.is_cpu(),
            max_logprobs=top_k,
            max_num_batched_tokens=settings.max_batched_tokens,  # longer prompts are read in parts
            gpu_memory_utilization=_GPU_MEMORY_SHARE * min(settings.gpus or 1.0, 1.0),
            max_model_len=max_tokens + 1,  # vLLM insists on generating one token
            enable_prefix_caching=False,  # cached positions have no log-probabilities
            logprobs_mode="raw_logprobs",
            disable_log_stats=True,
        )
        self.max_tokens = max_tokens

    def score(self, sequences: Sequence[npt.NDArray[np.int32]], top_k: int) -> list[Scores]:
        """See `Engine.score`. An error amid the work ends the process, as vLLM's own servers do."""
        sampling = SamplingParams(
            max_tokens=1, temperature=0, prompt_logprobs=top_k, detokenize=False, flat_logprobs=True
        )
        prompts = [{"prompt_token_ids": sequence.tolist()} for sequence in sequences]
        try:
            outputs = self._llm.generate(prompts, sampling, use_tqdm=False)
        except Exception as error:
            if self._llm.llm_engine.has_unfinished_requests() and not is_out_of_memory(error):
                # Not one that it has refused: its requests would stay in it, and its workers may be gone.
                logging.getLogger(__name__).exception("vLLM has failed; it is started anew")
                os._exit(1)
            raise
        return [
            _scores(sequence, output.prompt_logprobs, top_k)
            for sequence, output in zip(sequences, outputs, strict=True)
        ]


def _scores(sequence: npt.NDArray[np.int32], flat: FlatLogprobs, top_k: int) -> Scores:
    """Each position but the first, which is empty, lists the actual token and then the top-k."""
    shape = (len(sequence) - 1, top_k + 1)
    ids_MK = np.array(flat.token_ids, np.int32).reshape(shape)
    log_probs_MK = np.array(flat.logprobs, np.float32).reshape(shape)
    return Scores(sequence, log_probs_MK[:, 0], ids_MK[:, 1:], log_probs_MK[:, 1:])
