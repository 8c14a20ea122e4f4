"""Runs and their reports, small, for the tests of the page and of the page in a browser; and the page as a tree."""

import json
import os
from html.parser import HTMLParser

import numpy as np
from conftest import TINY
from PIL import Image

from connr import recipe, runs
from connr.data import open_images
from connr.report import page
from connr.run_folder import RunFolder

EVIL = "<img src=x onerror=alert(1)>.jpg"
EVIL_CLASS = "</script><script>alert(2)</script>".replace("/", "∕") + '"&amp;'  # a folder's name has no slash
VOID = {"meta", "link", "img", "input", "br", "hr"}
QUICK = ("train.epochs=2", "data.size=16", "backbone.width=4", "backbone.stages=2", "framework.hidden=16", "framework.out=8")


def digits_report(place, few_digits):
    """3 + 2 epochs on 400 digits held in memory."""
    folder = RunFolder(place / "digits")
    runs.fit(recipe.load("digits", TINY), few_digits, folder)
    page.write(folder, few_digits)
    return folder


def pictures_folder(place):
    """24 pictures in two class folders and outside, names made to break a page, and one that is no picture."""
    rng, folder = np.random.default_rng(0), place / "pictures"
    classes = (EVIL_CLASS, "cold", ".")
    for index in range(24):
        (folder / classes[index % 3]).mkdir(parents=True, exist_ok=True)
        name = {0: EVIL, 1: os.fsdecode(b"caf\xe9.png")}.get(index, f"{index:02d}.{'jpg' if index % 2 else 'png'}")
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / classes[index % 3] / name)
    (folder / "cold" / "<b>broken.jpg").write_text("no picture")
    return folder


def pictures_report(place):
    pictures = pictures_folder(place)
    r = recipe.load("photos", [*QUICK, "data.labels_from_folders=true"], clusters=3)
    images = open_images(pictures, 16, 3, labels_from_folders=True)
    folder = RunFolder(place / "run")
    runs.fit(r, images, folder)
    page.write(folder)
    return folder


class Tree(HTMLParser):
    """A page as a browser reads it: elements with their attributes and text; a tag left open or closed twice is an error."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.open = [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {[e['tag'] for e in self.open]}"

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "attrs": dict(attrs), "text": "", "within": [e["attrs"].get("id") for e in self.open]}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "attrs": dict(attrs), "text": "", "within": []})

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()["tag"] == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, **attrs):
        return [e for e in self.elements if e["tag"] == tag and all(e["attrs"].get(k) == v for k, v in attrs.items())]

    def id(self, name):
        (found,) = [e for e in self.elements if e["attrs"].get("id") == name]
        return found

    def has(self, name):
        return any(e["attrs"].get("id") == name for e in self.elements)

    @property
    def points(self):
        return json.loads(self.id("points")["text"])


def tree(folder):
    return Tree(folder.report.read_text(encoding="utf-8"))
