"""The pictures of a report in these pages: docs/report-desktop.png and docs/report-phone-dark.png.

connr fit digits --out runs/digits && python docs/screenshots.py runs/digits/report.html
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESK, PHONE = (1440, 900), (390, 844)
SECTIONS = ("body", "#map", "#curves", "#confusions")  # a phone's screen each


def full_page(browser: Browser, report: str) -> Image.Image:
    """The page from top to bottom, a point of the map chosen by the keyboard."""
    page = browser.new_page(viewport={"width": DESK[0], "height": DESK[1]}, color_scheme="light")
    page.goto(report)
    page.wait_for_selector("html[data-ready]")
    for _ in range(2):
        page.locator("#plane").press("ArrowDown")
    return Image.open(io.BytesIO(page.screenshot(full_page=True)))


def screens(browser: Browser, report: str) -> Image.Image:
    """What a phone shows at the top of some sections, side by side."""
    page = browser.new_page(viewport={"width": PHONE[0], "height": PHONE[1]}, color_scheme="dark", device_scale_factor=1.25)
    page.goto(report)
    page.wait_for_selector("html[data-ready]")
    shots = []
    for section in SECTIONS:
        page.locator(section).evaluate("element => element.scrollIntoView()")
        if section == "#map":
            page.locator("#plane").press("ArrowDown")
        shots.append(Image.open(io.BytesIO(page.screenshot())))
    width, height, gap = *shots[0].size, 24
    canvas = Image.new("RGB", (len(shots) * (width + gap) - gap, height), "white")
    for at, shot in enumerate(shots):
        canvas.paste(shot, (at * (width + gap), 0))
    return canvas


def main() -> None:
    report = Path(sys.argv[1]).resolve().as_uri()
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, picture in (("report-desktop", full_page(browser, report)), ("report-phone-dark", screens(browser, report))):
            few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
            few.save(HERE / f"{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
