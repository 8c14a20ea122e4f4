"""Writes small files in the formats that the paper's data sets are distributed in."""

import pickle
import struct

import numpy as np
from PIL import Image

from connr.data import cifar, imagenet

SUPERCLASSES = [f"superclass {i}" for i in range(20)]


def write_cifar(root, name, images, labels, names):
    """Images [n,32,32,3], cut evenly into the files, pickled as Python 2 did it in 2009; the names as Python 3 does."""
    folder, files, meta = cifar.FILES[name]
    (root / folder).mkdir(parents=True)
    label_key, names_key = cifar.KEYS[name]
    for file, rows in zip(files, np.array_split(np.arange(len(images)), len(files)), strict=True):
        data = images[rows].transpose(0, 3, 1, 2).reshape(len(rows), -1).copy()
        (root / folder / file).write_bytes(_as_python_2(data, label_key, labels[rows]))
    (root / folder / meta).write_bytes(pickle.dumps({names_key: list(names)}, protocol=2))


def _as_python_2(data, label_key, labels):
    """{"batch_label": ..., "data": array, label_key: list}, with the byte strings that Python 3 has no way to write."""

    def string(content):
        return b"T" + struct.pack("<i", len(content)) + content

    def number(value):
        return b"J" + struct.pack("<i", value)

    dtype = b"cnumpy\ndtype\n(" + string(b"u1") + b"K\x00K\x01tR(K\x03" + string(b"|") + b"NNN" + number(-1) * 2 + b"K\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + string(b"b") + b"tR"
    shape = number(data.shape[0]) + number(data.shape[1]) + b"\x86"
    array = made + b"(K\x01" + shape + dtype + b"\x89" + string(data.tobytes()) + b"tb"
    items = string(label_key.encode()) + b"](" + b"".join(number(int(label)) for label in labels) + b"e"
    return b"\x80\x02}(" + string(b"batch_label") + string(b"a batch") + string(b"data") + array + items + b"u."


def write_stl(root, parts, names=tuple("abcdefghij")):
    """`parts`: train, test, unlabeled -> images [n,96,96,3] and labels of 0 to 9, or None."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for part, (images, labels) in parts.items():
        images.transpose(0, 3, 2, 1).tofile(folder / f"{part}_X.bin")
        if labels is not None:
            (labels + 1).astype(np.uint8).tofile(folder / f"{part}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(names) + "\n")


def write_class_folders(place, folders, per_class, side=16):
    for index, folder in enumerate(folders):
        (place / folder).mkdir(parents=True)
        for number in range(per_class):
            colour = (index * 10 % 256, number * 60, 128)
            Image.new("RGB", (side, side), colour).save(place / folder / f"{folder.split('/')[0]}_{number}.JPEG", quality=95)


def write_imagenet(root, name, per_class=2):
    write_class_folders(root, imagenet.SUBSETS[name], per_class)
    write_class_folders(root, ["n01440764"], 1)  # a class of ImageNet that is in neither


def write_tiny(root, per_class=1, classes=200):
    write_class_folders(root / "tiny-imagenet-200" / "train", [f"n{i:08d}/images" for i in range(classes)], per_class)
