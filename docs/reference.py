"""Writes docs/job-file.md from the classes that read a job file.

python -m docs.reference
"""

import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from pta_ray.config import Job
from pta_ray.settings import Settings

PAGE = Path(__file__).with_name("job-file.md")

_HEAD = """\
<!-- Made by `python -m docs.reference` from pta_ray/config.py. -->

# The job file

A YAML file. `target`, `sources` and `data` are needed, everything else has a default. An unknown key, a wrong type or a
value out of its bounds is refused at once, with its name. `--set KEY=VALUE` on the command line replaces a value, whose
key is a path such as `training.learning_rate` or `sources.0.engine`. To see the job with every default:

    pta-ray fuse job.yaml --dry-run

A model may be given as its name alone, a text as its path alone, several as a list.
"""
_WIDTH = 120
_NAMES: dict[Any, str] = {str: "text", bool: "true or false", int: "whole number", float: "number"}
_BOUNDS = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt"}
_SIGNS = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<"}


def render() -> str:
    """The whole page."""
    sections = [f"## {_title(section)}\n\n{_section(section)}" for section in _sections(Job)]
    return "\n".join([_HEAD, *sections])


def _sections(root: type[Settings]) -> Iterator[type[Settings]]:
    """A class and those of its fields, each once, in the order in which they come up."""
    found = [root]
    for section in found:
        yield section
        for field in section.model_fields.values():
            found += [part for part in _parts(field.annotation) if part not in found]


def _parts(annotation: Any) -> list[type[Settings]]:
    """The classes of settings in a type."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [part for argument in get_args(annotation) for part in _parts(argument)]


def _section(section: type[Settings]) -> str:
    lines = [textwrap.fill(_one_line(section.__doc__), _WIDTH), ""]
    for name, field in section.model_fields.items():
        facts = [_type(field.annotation), *_bounds(field), _default(field)]
        entry = f"- **`{name}`** ({', '.join(fact for fact in facts if fact)})"
        entry += f": {_one_line(field.description)}" if field.description else ""
        lines.append(
            textwrap.fill(entry, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        )
    return "\n".join(lines) + "\n"


def _type(annotation: Any) -> str:
    """In words; of a section, a link to it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is tuple:
        return "whole number or `[fewest, most]`" if arguments[0] is int else f"list of {len(arguments)} numbers"
    if annotation in _NAMES:
        return _NAMES[annotation]
    title = _title(annotation)
    return f"[{title}](#{title.lower().replace(' ', '-')})"


def _bounds(field: FieldInfo) -> Iterator[str]:
    for bound in field.metadata:
        if type(bound) in _SIGNS:
            yield f"`{_SIGNS[type(bound)]} {getattr(bound, _BOUNDS[type(bound)])}`"


def _default(field: FieldInfo) -> str:
    """What stands for a field that is left out; of a section, its own defaults."""
    if field.is_required():
        return "needed"
    default = field.get_default(call_default_factory=True)
    if default is None or default == "":
        return ""
    value = default.model_dump(exclude_defaults=True) if isinstance(default, Settings) else default
    if value == {}:
        return ""
    plain = list(value) if isinstance(value, tuple) else value
    shown = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False).removesuffix("...\n").strip()
    return f"default `{shown}`"


def _title(section: type[Settings]) -> str:
    """A class's name in words."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in section.__name__)
    return words.strip().capitalize()


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
