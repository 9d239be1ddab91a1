"""Pages in a real Chromium."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Skips where there is no chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """Opens a page of ours. Whatever the console says is an error, and so is any request but for the file itself."""
    complaints: list[str] = []

    def opened(path: Path, **context: object) -> "Page":
        page = browser.new_context(**context).new_page()  # type: ignore[arg-type]
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if path.name not in request.url else None)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]")
        return page

    yield opened
    assert complaints == []
