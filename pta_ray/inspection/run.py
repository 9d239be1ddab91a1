"""`pta-ray inspect`: a text and a job in, an inspection out."""

from rich.console import Console

from pta_ray.config import Job
from pta_ray.inspection.inspect import Reading, inspect
from pta_ray.inspection.model import Inspection
from pta_ray.inspection.scoring import score_in_new_process
from pta_ray.job_models import check_context, load_model_tokenizer
from pta_ray.text.windows import cut


def inspect_text(job: Job, text: str, only: str | None, console: Console) -> Inspection:
    """Cuts a text as the stream would, lets one model after the other read it, and inspects what they say.

    Args:
        only: the name of the one source to ask; by default all are.
        console: shows what is at work.

    Raises:
        JobError: a model cannot be loaded; names its field.
        StreamError: a model failed.
    """
    models = {"target.model": job.target}
    models |= {f"sources.{i}.model": source for i, source in enumerate(job.sources) if only in (None, source.name)}
    check_context(job)
    tokenizers = {field: load_model_tokenizer(field, model) for field, model in models.items()}
    windows = [*cut(text, tokenizers["target.model"], job.data.window_tokens)]
    readings = []
    for field, model in models.items():
        # Twice as many tokens for a source, as in the stream: its tokenizer may need more for the same text.
        most = job.data.window_tokens * (1 if model is job.target else 2)
        with console.status(f"{model.name} reads the text"):
            scores = score_in_new_process(model, tokenizers[field], windows, most, job.alignment.top_k)
        readings.append(Reading(model.name, tokenizers[field], scores))
    asked = [model.name for model in models.values()]
    left_out = [source.name for source in job.sources if source.name not in asked]
    simulated = [model.name for model in models.values() if model.engine == "simulated"]
    with console.status("alignment"):
        return inspect(job.alignment, readings[0], readings[1:], windows, left_out, simulated)
