"""What is read of a job's models before any of them is started: their tokenizers, and whether these fit."""

from pta_ray.checkpoint import check_vocabulary, has_configuration, local_checkpoint, max_positions
from pta_ray.config import Job, ServedModel
from pta_ray.errors import JobError
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import UnsupportedTokenizerError, load_tokenizer


def load_tokenizers(job: Job) -> list[ByteTokenizer]:
    """Those of the target and of the sources that follow it. Raises as `load_model_tokenizer`."""
    fields = ["target.model", *(f"sources.{i}.model" for i in range(len(job.sources)))]
    return [load_model_tokenizer(field, model) for field, model in zip(fields, job.models, strict=True)]


def load_model_tokenizer(field: str, model: ServedModel) -> ByteTokenizer:
    """A model's tokenizer, which is fit for it.

    Raises:
        JobError: names the field of the job where the model stands.
    """
    try:
        checkpoint = local_checkpoint(model.model)
        tokenizer = load_tokenizer(checkpoint, model.trust_remote_code)
        if has_configuration(model, checkpoint):
            check_vocabulary(field, checkpoint, tokenizer.highest_id + 1, model.trust_remote_code)
    except UnsupportedTokenizerError as error:
        raise JobError(field, f"the tokenizer of {model.model} cannot be aligned: {error}") from None
    except (OSError, ValueError) as error:
        raise JobError(field, f"cannot load {model.model}: {str(error).splitlines()[0]}") from None
    return tokenizer


def check_context(job: Job) -> None:
    """Refuses windows that the target cannot read to their end; sources that cannot fall silent there."""
    target = job.target
    checkpoint = local_checkpoint(target.model)
    if not has_configuration(target, checkpoint):
        return
    longest = max_positions(checkpoint, target.trust_remote_code) - 1
    if job.data.window_tokens > longest:
        raise JobError("data.window_tokens", f"{target.name} reads {longest} tokens at most; choose that or less")
