"""The HTML report in a real Chromium: sorting, the keyboard, no network, dark, narrow, in print."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium, found
from report_records import MADE_UP, a5_records, countdown_records, path_star_records, seeds

from nextlat_bench.report.page import page

pytestmark = pytest.mark.skipif(
    found() is None, reason="no chromium, chromium-browser or google-chrome on the PATH"
)
ROOT = Path(__file__).parent.parent
EVIL = '"><img src=x onerror="hacked=1"></style></script><script>hacked=1</script>'
HOSTILE = seeds(0.5, objective=EVIL, skipped_because=EVIL, n_skipped=3)
RECORDS = [*MADE_UP, *HOSTILE, *path_star_records(), *countdown_records(), *a5_records()]
OPENED = "document.querySelectorAll('details').forEach((each) => { each.open = true })"
# of the first table of Countdown: a column's head, its button, its texts from top to bottom
FIRST = "document.querySelector('#countdown > .scroll table')"
HEAD = f"{FIRST}.tHead.rows[0].cells"
COLUMN = f"[...{FIRST}.tBodies[0].rows].map((row) => row.cells[%d].innerText)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(RECORDS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Chromium, made: Path) -> Chromium:
    """The page opened anew, on a bright, wide screen."""
    chromium.shown()
    chromium.open(made)
    return chromium


def named(browser: Chromium, method: str) -> list[Any]:
    return [event["params"] for event in browser.events if event["method"] == method]


def numbers(texts: list[str]) -> list[float | None]:
    """What a reader sees, None of a dash."""
    firsts = [text.partition("\n")[0].partition(" ")[0] for text in texts]
    return [None if first.startswith("\u2013") else float(first) for first in firsts]


def click(browser: Chromium, column: int) -> None:
    """With the mouse, on the middle of a head."""
    box = f"""(() => {{
        const button = {HEAD}[{column}].querySelector("button");
        button.scrollIntoView({{ block: "center", inline: "center" }});
        const box = button.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    }})()"""
    browser.click(*browser.run(box))


def test_nothing_is_asked_of_a_network_and_nothing_goes_wrong(browser: Chromium) -> None:
    browser.run(OPENED)
    click(browser, 2)
    asked = {
        each["request"]["url"].partition(":")[0]
        for each in named(browser, "Network.requestWillBeSent")
    }
    assert asked == {"file", "data"}
    for complaint in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
        assert named(browser, complaint) == []
    assert browser.run("[...document.images].every((each) => each.naturalWidth > 500)")


def test_nothing_that_a_record_says_is_run(browser: Chromium) -> None:
    assert browser.run("typeof hacked") == "undefined"
    assert EVIL in browser.run("document.querySelector('#taxi').textContent")
    assert browser.run("[...document.images].every((each) => each.closest('figure'))")


def test_the_policy_holds_where_escaping_would_not(browser: Chromium) -> None:
    """A script, a handler and a picture that had come in would not be run or fetched."""
    browser.events.clear()
    browser.run(
        """document.body.insertAdjacentHTML("beforeend", '<img src="x.png" onerror="hacked=1">');
        (() => { const each = document.createElement("script"); each.textContent = "hacked=1";
        document.body.append(each); })()"""
    )
    browser.run("new Promise((done) => setTimeout(done, 200))")
    assert browser.run("typeof hacked") == "undefined"
    failed = named(browser, "Network.loadingFailed")
    assert [each["blockedReason"] for each in failed] == ["csp"]


def test_a_click_sorts_up_then_down_then_as_it_was(browser: Chromium) -> None:
    first = browser.run(COLUMN % 3)
    values = [value for value in numbers(first) if value is not None]
    missing = [None] * (len(first) - len(values))
    assert len(values) > 10
    assert missing
    assert values != sorted(values)
    for state, expected in (
        ("ascending", sorted(values)),
        ("descending", sorted(values, reverse=True)),
    ):
        click(browser, 3)
        assert browser.run(f"{HEAD}[3].getAttribute('aria-sort')") == state
        assert numbers(browser.run(COLUMN % 3)) == [*expected, *missing]  # missing ones last
        said = browser.run("document.getElementById('said').textContent")
        assert said.endswith(f"sorted {state} by Seen targets %")
    click(browser, 3)
    assert browser.run(COLUMN % 3) == first
    assert browser.run("document.querySelectorAll('[aria-sort]').length") == 0


def test_names_sort_as_names_and_one_column_at_a_time(browser: Chromium) -> None:
    click(browser, 2)
    click(browser, 0)
    names = browser.run(COLUMN % 0)
    assert names == sorted(names, key=str.casefold)
    assert names[0].startswith("BST")
    heads = browser.run(f"[...{HEAD}].map((head) => head.getAttribute('aria-sort'))")
    assert heads == ["ascending", *[None] * (len(heads) - 1)]


def test_the_keyboard_reaches_and_sorts(browser: Chromium) -> None:
    """The first Tab offers to skip the contents; a head is sorted by Enter and by Space."""
    browser.press("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    assert browser.run("document.activeElement.getBoundingClientRect().x") >= 0
    browser.press("Enter")
    assert browser.run("document.activeElement.id") == "content"
    reached = ""
    for _ in range(12):
        browser.press("Tab")
        reached = browser.run("document.activeElement.tagName")
        if reached == "BUTTON":
            break
    assert reached == "BUTTON"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key, state in (("Enter", "ascending"), (" ", "descending")):
        browser.press(key)
        assert (
            browser.run("document.activeElement.parentElement.getAttribute('aria-sort')") == state
        )


def test_a_table_that_is_too_wide_scrolls_by_itself(browser: Chromium) -> None:
    browser.shown(width=400)
    browser.run(OPENED)
    assert browser.run("document.documentElement.scrollWidth") <= 400
    wide = "document.querySelector('#taxi > .scroll')"
    assert browser.run(f"{wide}.scrollWidth > {wide}.clientWidth && {wide}.tabIndex === 0")


def test_a_picture_stays_large_enough_to_be_read(browser: Chromium) -> None:
    """On a telephone it scrolls by itself; printed it is as wide as the paper at most."""
    wide = "document.querySelector('figure .scroll')"
    fits = f"{wide}.scrollWidth === {wide}.clientWidth"
    assert browser.run(fits)
    browser.shown(width=400)
    assert browser.run("document.querySelector('figure img').offsetWidth") >= 576
    assert browser.run(f"!({fits}) && {wide}.tabIndex === 0")
    browser.shown(media="print", width=500)
    assert browser.run("document.querySelector('figure img').offsetWidth") <= 500


def brightness(browser: Chromium, element: str, what: str) -> float:
    """0 to 255, of a computed colour."""
    style = f"getComputedStyle(document.querySelector('{element}')).{what}"
    return float(browser.run(f"Math.max(...{style}.match(/[0-9.]+/g).slice(0, 3).map(Number))"))


def test_dark_where_one_wants_it_dark_with_pictures_on_white(browser: Chromium) -> None:
    assert brightness(browser, "body", "backgroundColor") == 255
    browser.shown(scheme="dark")
    assert brightness(browser, "body", "backgroundColor") < 50
    assert brightness(browser, "body", "color") > 200
    assert brightness(browser, "figure img", "backgroundColor") == 255


def test_in_print(browser: Chromium) -> None:
    """Black on white, without what is to be clicked, every seed unfolded; also from the dark."""
    browser.shown(scheme="dark", media="print")
    assert brightness(browser, "body", "backgroundColor") == 255
    assert brightness(browser, "body", "color") < 60
    assert browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    height = "document.querySelector('%s table').checkVisibility({ contentVisibilityAuto: true })"
    assert browser.run(height % ".more")
    assert not browser.run(height % ".numbers")
    wide = "[...document.querySelectorAll('section > .scroll table')].map((t) => t.offsetWidth)"
    browser.shown(media="print", width=1032)  # 273 mm of an A4 page on its side
    assert max(browser.run(wide)) <= 1032
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") > 5


def passed(browser: Chromium, options: str = "") -> set[str]:
    """The names of axe's rules (WCAG 2.1 A and AA, best practices) that the page obeys, where it
    breaks none."""
    browser.run(OPENED)
    browser.run((resources.files("axe_core_python") / "axe.min.js").read_text("utf-8") + ";0")
    found = browser.run(f"axe.run({{ resultTypes: ['violations'], {options} }})")
    faults = [
        (fault["id"], [node["html"][:200] for node in fault["nodes"][:3]])
        for fault in found["violations"]
    ]
    assert faults == []
    return {rule["id"] for rule in found["passes"]}


# a quarter of a minute each: the other two by `make test-all`
@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (400, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
        pytest.param(400, "light", marks=pytest.mark.slow),
    ],
)
def test_no_fault_in_accessibility(scheme: str, width: int, browser: Chromium) -> None:
    browser.shown(scheme=scheme, width=width)
    assert {"color-contrast", "image-alt", "region"} <= passed(browser)


CLASSES = "[...new Set([...document.querySelectorAll('*')].flatMap((each) => [...each.classList]))]"


@pytest.mark.slow
def test_nor_in_the_page_of_the_committed_records(browser: Chromium) -> None:
    """Its colours are those of the page above, since no class of it is new; a second look at each
    of its forty thousand elements takes minutes (below)."""
    seen = set(browser.run(CLASSES))
    browser.open(ROOT / "results" / "rendered" / "report.html")
    assert {"image-alt", "region"} <= passed(browser, "rules: {'color-contrast': {enabled: false}}")
    assert set(browser.run(CLASSES)) <= seen | {"beside"}  # it places pictures, without a colour


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_its_contrasts_one_by_one(scheme: str, width: int, browser: Chromium) -> None:
    browser.shown(scheme=scheme, width=width)
    browser.open(ROOT / "results" / "rendered" / "report.html")
    assert {"color-contrast", "image-alt", "region"} <= passed(browser)


def test_every_head_says_of_what_it_is_the_head(browser: Chromium) -> None:
    scopes = browser.run("[...document.querySelectorAll('th')].map((each) => each.scope)")
    assert set(scopes) == {"col", "row"}
    assert browser.run("[...document.querySelectorAll('table')].every((t) => t.caption)")
