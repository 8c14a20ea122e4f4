"""report.html as people see it: in the system's Chromium, opened from disk, at the sizes of a phone and a desk."""

import shutil
from base64 import b64decode

import pytest
import reports
import torch
from processes import HANGS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on this machine")
SIZES = {"phone": (390, 844), "desk": (1440, 900)}
# A frame is painted and the queue of tasks is empty: what the page had to say by itself has been said.
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"
MARGIN, GRID = 22, 10_000  # of map.js


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=1000 * HANGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def digits(tmp_path_factory, few_digits):
    return reports.digits_report(tmp_path_factory.mktemp("digits"), few_digits)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return reports.pictures_report(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def opened(browser):
    """Opens a report; at the end nothing may have been requested, logged or popped up besides the file."""
    pages, noise = [], []

    def open_(folder, size="desk", scheme="light", **options):
        width, height = SIZES[size]
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        page.set_default_timeout(1000 * HANGS)
        address = folder.report.resolve().as_uri()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("dialog", lambda dialog: (noise.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda asked: noise.append(asked.url) if not asked.url.startswith(("data:", address)) else None)
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.evaluate(SETTLED)
        page.close()
    assert noise == []


def place(page, points, i):
    """Where a point of the map is on the screen."""
    box = page.evaluate(
        "() => { const c = document.getElementById('plane'), b = c.getBoundingClientRect();"
        " return [b.left + c.clientLeft, b.top + c.clientTop, c.clientWidth, c.clientHeight] }"
    )
    left, top, width, height = box
    scale = (min(width, height) - 2 * MARGIN) / GRID
    x, y = points["x"][i] * scale, (GRID - points["y"][i]) * scale
    return left + (width - GRID * scale) / 2 + x, top + (height - GRID * scale) / 2 + y


def alone(points):
    """The points whose nearest other point is farthest, so that no other can be meant; those first."""
    at = torch.tensor([points["x"], points["y"]]).double().T
    distances = torch.cdist(at, at).fill_diagonal_(torch.inf).amin(dim=1)
    return distances.argsort(descending=True).tolist()


def painted(page, canvas):
    """The bytes (red, green, blue, alpha) of a canvas, read from a copy: Chromium logs a hint about canvases often read."""
    return page.evaluate(
        "(id) => { const c = document.getElementById(id), copy = document.createElement('canvas');"
        " [copy.width, copy.height] = [c.width, c.height];"
        " const pen = copy.getContext('2d', { willReadFrequently: true }); pen.drawImage(c, 0, 0);"
        " return btoa([...pen.getImageData(0, 0, c.width, c.height).data].map((x) => String.fromCharCode(x)).join('')) }",
        canvas,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pointing_at_a_point_shows_its_own_picture(opened, digits, few_digits, size, scheme):
    page, points = opened(digits, size, scheme), reports.tree(digits).points
    page.locator("#plane").scroll_into_view_if_needed()
    for i in alone(points)[:5]:
        page.mouse.move(*place(page, points, i))
        assert page.locator("#pick").is_visible()
        text = page.locator("#pick-text").inner_text()
        assert text.split("\n")[0] == points["name"][i]
        assert f"cluster {points['cluster'][i]} " in text
        assert list(b64decode(painted(page, "picked")))[::4] == few_digits.images[i].flatten().tolist()
        box = page.locator("#pick").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= SIZES[size][0]
    page.mouse.move(5, 5)
    assert not page.locator("#pick").is_visible()


def test_a_tap_shows_the_picture(opened, digits):
    page, points = opened(digits, "phone", has_touch=True), reports.tree(digits).points
    page.locator("#plane").scroll_into_view_if_needed()
    i = alone(points)[0]
    page.touchscreen.tap(*place(page, points, i))
    assert page.locator("#pick-text b").inner_text() == points["name"][i]


def test_the_filter_hides_the_other_clusters(opened, digits):
    page, points = opened(digits), reports.tree(digits).points
    biggest = max(range(10), key=points["cluster"].count)
    other = next(i for i in alone(points) if points["cluster"][i] != biggest)
    own = next(i for i in alone(points) if points["cluster"][i] == biggest)
    assert page.locator("#shown").inner_text() == "400 of 400 points shown."
    page.locator(f"[data-only='{biggest}']").click()
    assert page.locator("#shown").inner_text() == f"{points['cluster'].count(biggest)} of 400 points shown."
    page.mouse.move(*place(page, points, own))
    assert page.locator("#pick-text b").inner_text() == points["name"][own]
    page.mouse.move(*place(page, points, other))
    assert not page.locator("#pick").is_visible() or page.locator("#pick").get_attribute("data-index") != str(other)
    page.locator("#none").click()
    assert page.locator("#shown").inner_text() == "0 of 400 points shown."
    assert not any(b64decode(painted(page, "plane")))
    page.locator(f"#legend input[value='{biggest}']").check()
    assert page.locator("#shown").inner_text() == f"{points['cluster'].count(biggest)} of 400 points shown."
    assert any(b64decode(painted(page, "plane")))
    page.locator("#all").click()
    page.locator("#edges").uncheck()
    assert page.locator("#shown").inner_text() == f"{points['edge'].count(0)} of 400 points shown."


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_screen_and_text_stands_out(opened, digits, pictures, size, scheme):
    for folder in (digits, pictures):
        page = opened(folder, size, scheme)
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
        page.evaluate("document.querySelectorAll('table').forEach((t) => { t.style.minWidth = '2000px' })")  # many classes
        assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
        ground, *inks = page.evaluate(
            "() => { const look = (name) => getComputedStyle(document.querySelector(name));"
            " return [look('body').backgroundColor, ...['h1', '.about', 'nav a', '#map-help'].map((s) => look(s).color)] }"
        )
        assert (luminance(ground) < 0.1) == (scheme == "dark")
        for ink in inks:
            low, high = sorted((luminance(ink), luminance(ground)))
            assert (high + 0.05) / (low + 0.05) >= 4.5


def luminance(colour):
    channels = [int(x) / 255 for x in colour[4:-1].split(",")]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_keyboard_reaches_every_point(opened, pictures):
    page, points = opened(pictures), reports.tree(pictures).points
    focused = "() => [document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]"
    for _ in range(60):
        page.keyboard.press("Tab")
        element, outline = page.evaluate(focused)
        assert outline != "none"  # whatever has the focus is seen to have it
        if element == "plane":
            break
    else:
        raise AssertionError("Tab never comes to the map")
    names = set()
    for _ in range(24):
        page.keyboard.press("PageDown")
        names.add(page.locator("#pick-text b").inner_text())
    assert names == set(points["name"])
    for key, axis, sign in (("ArrowRight", "x", 1), ("ArrowLeft", "x", -1), ("ArrowUp", "y", 1), ("ArrowDown", "y", -1)):
        before = int(page.locator("#pick").get_attribute("data-index"))
        page.keyboard.press(key)
        after = int(page.locator("#pick").get_attribute("data-index"))
        assert after == before or sign * (points[axis][after] - points[axis][before]) > 0
    assert page.locator("#said").inner_text().startswith(points["name"][after])
    page.keyboard.press("Escape")
    assert not page.locator("#pick").is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # the box of cluster 0
    assert page.locator("#shown").inner_text() == f"{24 - points['cluster'].count(0)} of 24 points shown."


def test_a_name_that_is_html_does_nothing(opened, pictures):
    page, points = opened(pictures), reports.tree(pictures).points
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("script").count() == 2
    i = next(i for i, name in enumerate(points["name"]) if name.endswith(reports.EVIL))
    page.locator("#plane").focus()
    for _ in range(25):
        page.keyboard.press("PageDown")
        if page.locator("#pick").get_attribute("data-index") == str(i):
            break
    assert page.locator("#pick-text b").inner_text() == f"{reports.EVIL_CLASS}/{reports.EVIL}"
    assert page.locator("img[src='x']").count() == 0


def test_the_page_allows_no_script_but_its_own(browser, pictures, tmp_path):
    """The content security policy holds even if escaping did not: a script put into the page is refused."""
    html = pictures.report.read_text(encoding="utf-8").replace("</main>", "<script>window.owned = 1</script></main>")
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    page = browser.new_page()
    page.set_default_timeout(1000 * HANGS)
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("window.owned") is None
    page.close()
