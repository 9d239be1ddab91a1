"""What a job says of itself to people who read its result elsewhere."""

from pathlib import Path

from pta_ray.config import Job
from pta_ray.settings import Ramp, TemperatureRamp


def shown(place: str) -> str:
    """A hub id or URI as it is; of a directory or file on the machine, the last part."""
    return Path(place).name if Path(place).is_absolute() else place


def settings(job: Job) -> list[tuple[str, object]]:
    """Name and value of every setting that the result depends on."""
    alignment, training = job.alignment, job.training
    lora = training.lora
    return [
        ("method", alignment.method),
        *((name, getattr(alignment, name)) for name in _settings_of(alignment.method)),
        ("top_k", alignment.top_k),
        ("targets", alignment.targets),
        ("fusion", job.fusion.choice),
        ("divergence", training.divergence),
        ("temperature", training.temperature),
        ("source_temperature", _ramp(training.source_temperature)),
        ("tail", training.tail),
        ("clm_weight", _ramp(training.clm_weight)),
        ("learning_rate", training.learning_rate),
        ("weight_decay", training.weight_decay),
        ("batch_windows", training.batch_windows),
        ("window_tokens", job.data.window_tokens),
        ("precision", training.precision),
        ("lora", f"rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout:g}, merged" if lora else "none"),
        ("seed", job.data.seed),
    ]


def _settings_of(method: str) -> list[str]:
    """Those that the transport of a method depends on."""
    return {"pta": ["cost", "epsilon", "rho"], "pta-paper": ["epsilon"]}.get(method, [])


def _ramp(ramp: Ramp | TemperatureRamp) -> str:
    return f"{ramp.start:g}" if ramp.start == ramp.end else f"{ramp.start:g} to {ramp.end:g}"
