"""The site as a browser shows it, on a phone, on a laptop and on a large screen, light and dark.

`make site` runs it, with Debian's Chromium; screenshots go to build/site.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SITE, SCREENSHOTS = ROOT / "build" / "docs", ROOT / "build" / "site"
PAGES = sorted(
    path.relative_to(SITE).with_suffix("").as_posix()
    for path in SITE.rglob("*.html")
    if path.stem not in ("genindex", "search", "py-modindex")
)
WIDTHS = (390, 1024, 1600)
# What goes beyond its frame. On a phone tables and drawings scroll within theirs; lines of code never have to.
BEYOND = """narrow => {
    const found = [], page = document.documentElement;
    if (page.scrollWidth > page.clientWidth) found.push(`the page: ${page.scrollWidth} px of ${page.clientWidth}`);
    for (const one of document.querySelectorAll(narrow ? 'pre' : 'pre, .table-wrapper'))
        if (one.scrollWidth > one.clientWidth + 1 && !one.closest('.drawing'))
            found.push(`${one.innerText.slice(0, 60)}: ${one.scrollWidth} px of ${one.clientWidth}`);
    return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("Chromium is missing. HINT: as root, apt-get install chromium")
    with playwright.sync_playwright() as started:
        one = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_goes_beyond_its_frame_and_pictures_have_words(browser: Any, width: int, scheme: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab, wrong = context.new_page(), {}
    assert len(PAGES) > 20, "make docs makes them"
    for name in PAGES:
        tab.goto((SITE / f"{name}.html").as_uri())
        found = tab.evaluate(BEYOND, width < WIDTHS[1])
        found += tab.evaluate("[...document.images].filter(one => !one.alt || !one.naturalWidth).map(one => one.src)")
        if found:
            wrong[name] = found
        tab.screenshot(path=SCREENSHOTS / f"{name.replace('/', '-')}-{width}-{scheme}.png")
    context.close()
    assert wrong == {}
