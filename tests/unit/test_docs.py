"""What the documentation says can be done."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from safetensors.numpy import save_file
from typer.testing import CliRunner

from docs.reference import PAGE, render
from pta_ray import cli
from pta_ray.config import Job
from pta_ray.job_file import load_job
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDED = {"target": "org/target", "sources": ["org/source"], "data": "text.jsonl"}


@dataclass(frozen=True)
class Block:
    """Code in a page."""

    page: Path
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.stem}: {self.code.strip().splitlines()[0]}"


def blocks(page: Path) -> list[Block]:
    """Fenced and indented code, in the order of the page."""
    found, lines, language, fence = [], [], "", False
    for line in [*page.read_text().splitlines(), ""]:
        if line.startswith("```"):
            if fence:
                found.append(Block(page, language, "\n".join(lines)))
            fence, language, lines = not fence, line.removeprefix("```"), []
        elif fence:
            lines.append(line)
        elif line.startswith("    "):
            lines.append(line[4:])
        elif lines:
            found.append(Block(page, "", "\n".join(lines)))
            lines = []
    return found


def commands(block: Block) -> list[list[str]]:
    """The arguments of every `pta-ray` in a block."""
    lines = block.code.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if re.match(r"\s*pta-ray\s", line)]
    return [line[1:] for line in words]


BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [(block, arguments) for block in BLOCKS for arguments in commands(block)]
SECTIONS = [block for block in BLOCKS if block.language == "yaml"]
JOBS = [block for block in SECTIONS if set(NEEDED) <= set(yaml.safe_load(block.code))]


def in_text(page: Path) -> list[str]:
    """The commands that stand between backticks in running text."""
    return re.findall(r"`(pta-ray [^`]*)`", page.read_text())


def parse(arguments: list[str]) -> None:
    """Reads a command line as `pta-ray` does, and runs nothing."""
    group = typer.main.get_command(cli.app)
    with group.make_context("pta-ray", list(arguments)) as context:
        rest = [*context._protected_args, *context.args]
        _, command, rest = group.resolve_command(context, rest)
        command.make_context(command.name, rest, parent=context).close()


def test_the_reference_of_the_job_file_is_what_its_classes_say() -> None:
    assert PAGE.read_text() == render(), "make it anew: python -m docs.reference"


def test_there_is_something_to_try() -> None:
    assert {block.page.name for block, _ in COMMANDS} >= {"README.md", "recipes.md", "troubleshooting.md"}
    assert {arguments[0] for _, arguments in COMMANDS} >= {"fuse", "align", "evaluate", "inspect", "doctor"}
    assert len(JOBS) >= 6


@pytest.mark.parametrize(("block", "arguments"), COMMANDS, ids=lambda value: str(value)[:60])
def test_every_command_is_one(block: Block, arguments: list[str]) -> None:
    parse(arguments)


@pytest.mark.parametrize("arguments", [["fuse"], ["fuse", "job.yaml", "--no-such"], ["fussy", "job.yaml"]])
def test_a_command_that_is_none_would_be_noticed(arguments: list[str]) -> None:
    with pytest.raises(Exception, match=r"Missing|No such"):
        parse(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_running_text_exist(page: Path) -> None:
    group = typer.main.get_command(cli.app)
    named = {words[1] for words in map(str.split, in_text(page)) if len(words) > 1 and words[1][0] not in "-."}
    assert named <= set(group.commands)


@pytest.mark.parametrize("block", SECTIONS, ids=str)
def test_every_section_of_a_job_is_sound(block: Block, tmp_path: Path) -> None:
    section: dict[str, Any] = yaml.safe_load(block.code)
    assert set(section) <= set(Job.model_fields)
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(NEEDED | section))
    load_job(path, [])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the models and the text that the recipes name; nothing reads the weights."""
    for name in ("mine", "good-at-code", "small", "other"):
        model = tmp_path / "models" / name
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
        save_file({"weight": np.zeros(1, np.float32)}, model / "model.safetensors")
    (tmp_path / "text" / "held-out").mkdir(parents=True)
    for name in ("code", "held-out/code", "held-out/prose"):
        (tmp_path / "text" / f"{name}.jsonl").write_text('{"text": "words"}\n')
    pq.write_table(pa.table({"body": ["words"]}), tmp_path / "text" / "prose.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


def runs() -> Iterator[tuple[str, list[str]]]:
    """The commands of docs/ that can be run for nothing, each with the job above it: looks, and dry runs."""
    [alone] = [block.code for block in JOBS if "models/small" in block.code]
    for page in PAGES[1:]:
        job = alone
        for block in blocks(page):
            job = block.code if block in JOBS else job
            for arguments in commands(block):
                if arguments[0] == "doctor" and "--address" not in arguments:
                    yield alone, arguments
                elif {"fuse", "align"} & set(arguments) and "--from-cache" not in arguments:
                    yield job, [*arguments, "--dry-run"]


RUNS = list(runs())


@pytest.mark.parametrize(("job", "arguments"), RUNS, ids=[" ".join(arguments) for _, arguments in RUNS])
def test_commands_pass_all_that_is_looked_at_before_a_run(job: str, arguments: list[str], place: Path) -> None:
    (place / "job.yaml").write_text(job)
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.exception or done.output
    assert done.output
