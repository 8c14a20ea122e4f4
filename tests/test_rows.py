"""Images in memory and images in a file: the same rows, the same batches, the same run."""

import gc
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from connr import recipe, runs
from connr.data import FileRows, StoragePolicy, batches, fetched, open_images, parts, resident
from connr.errors import InputError
from connr.randomness import stream
from connr.run_folder import RunFolder

CPU = torch.device("cpu")
NO_ROOM = "data.resident_gib=0"


@pytest.fixture
def rows():
    return torch.randint(0, 256, (50, 3, 4, 5), generator=stream(0, "rows"), dtype=torch.uint8)


@pytest.fixture
def in_file(rows, tmp_path):
    (tmp_path / "rows").write_bytes(rows.numpy().tobytes())
    return FileRows(tmp_path / "rows", rows.shape)


@pytest.mark.parametrize(
    "which",
    [
        *(0, -1, 49, slice(None), slice(3, 9), slice(-4, None), slice(40, 90), slice(9, 3), slice(1, 30, 7)),
        *(torch.tensor([7, 7, 0, 49]), torch.tensor([], dtype=torch.int64), torch.arange(50) % 3 == 0),
    ],
)
def test_rows_of_a_file_are_those_of_a_tensor(rows, in_file, which):
    assert torch.equal(in_file[which], rows[which])


def test_floats_in_a_file_and_rows_in_another_process(tmp_path):
    halves = torch.randn(9, 2, 5, generator=stream(0, "halves")).half()
    (tmp_path / "rows").write_bytes(halves.numpy().tobytes())
    found = pickle.loads(pickle.dumps(FileRows(tmp_path / "rows", halves.shape, torch.float16)))
    assert torch.equal(found[torch.tensor([4, 1])], halves[[4, 1]])


def test_threads_that_read_one_file_do_not_mix_their_rows(rows, in_file):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda index: in_file[index], [i % 50 for i in range(4000)]))
    assert all(torch.equal(row, rows[index % 50]) for index, row in enumerate(found))


def test_a_file_cut_short_is_named(in_file):
    with open(in_file.path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(InputError, match=r"rows.* truncated; run again with --resume"):
        in_file[slice(None)]


def test_a_file_that_is_gone_is_named(in_file):
    in_file.path.unlink()
    with pytest.raises(InputError, match=r"rows.* has been removed; run again with --resume"):
        in_file[0]


def test_parts_are_all_rows_in_order(rows, in_file):
    for source in (rows, in_file):
        assert torch.equal(torch.cat(list(parts(source, 7))), rows)
        assert torch.equal(torch.cat(list(parts(source, 7, slice(5, 31)))), rows[5:31])


def test_the_same_seed_gives_the_same_batches_from_either(rows, in_file):
    own = slice(2, 6)
    one, other = (list(fetched(source, batches(50, 8, 3, 1), own, CPU)) for source in (rows, in_file))
    assert len(one) == len(other) == 6
    for ours, theirs in zip(one, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert torch.equal(ours[2], rows[ours[0][own]])


def test_a_batch_is_read_while_the_one_before_is_used(in_file):
    asked = []

    def order():
        for batch in batches(50, 8, 0, 0):
            asked.append(len(asked))
            yield batch

    counts = [len(asked) for _ in fetched(in_file, order(), slice(None), CPU)]
    assert counts == [2, 3, 4, 5, 6, 6]


def test_a_fault_of_the_disk_reaches_whoever_asked_for_the_batch(in_file):
    with open(in_file.path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(InputError, match="truncated"):
        list(fetched(in_file, batches(50, 8, 0, 0), slice(None), CPU))


def test_what_fits_the_budget_is_resident(rows):
    meta = torch.device("meta")
    assert resident(rows, CPU, 0) is rows
    assert resident(rows, meta, rows.numel()).device == meta
    assert resident(rows, meta, rows.numel() - 1) is rows


def test_pictures_without_room_are_decoded_into_the_cache_once(pictures, tmp_path, monkeypatch):
    (pictures / "broken.png").write_text("no picture")
    cache = tmp_path / "cache"
    in_memory = open_images(pictures, 16, 3)
    found = open_images(pictures, 16, 3, storage=StoragePolicy(0, cache))
    assert isinstance(found.images, FileRows)
    assert torch.equal(found.images[:], in_memory.images)
    assert (found.names, found.skipped, found.fingerprint()) == (in_memory.names, in_memory.skipped, in_memory.fingerprint())
    assert found.statistics() == in_memory.statistics()

    with monkeypatch.context() as patch:
        patch.setattr("connr.data.folder.read_picture", None)  # nothing is decoded again
        again = open_images(pictures, 16, 3, storage=StoragePolicy(0, cache))
    assert (again.names, again.skipped, again.fingerprint()) == (found.names, found.skipped, found.fingerprint())

    Image.fromarray(np.zeros((5, 5), dtype=np.uint8)).save(pictures / "00.png")  # replaced
    changed = open_images(pictures, 16, 3, storage=StoragePolicy(0, cache))
    assert not changed.images[0].any()
    assert open_images(pictures, 8, 3, storage=StoragePolicy(0, cache)).images.shape[2:] == (8, 8)


@pytest.mark.parametrize("harm", ["cut", "notes", "no notes"])
def test_a_half_written_cache_is_written_again(pictures, tmp_path, harm):
    cache = tmp_path / "cache"
    before = open_images(pictures, 16, 3, storage=StoragePolicy(0, cache))
    (path,), (notes,) = cache.glob("*.rows"), cache.glob("*.json")
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "notes":
        notes.write_text('{"names": ["00.p')
    else:
        notes.unlink()
    assert open_images(pictures, 16, 3, storage=StoragePolicy(0, cache)).fingerprint() == before.fingerprint()


def test_two_processes_do_not_decode_into_one_cache(pictures, tmp_path):
    from connr.data.storage import locked_cache

    with locked_cache(tmp_path / "cache"), pytest.raises(InputError, match="another process is decoding into"):
        open_images(pictures, 16, 3, storage=StoragePolicy(0, tmp_path / "cache"))
    (tmp_path / "cache" / ".x.rows.1.tmp").write_text("a killed one's")
    open_images(pictures, 16, 3, storage=StoragePolicy(0, tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob(".*.tmp"))


def test_without_a_run_folder_the_file_goes_with_its_images(pictures):
    found = open_images([str(path) for path in sorted(pictures.glob("*.png"))], 8, 3, storage=StoragePolicy(0))
    path = found.images.path
    assert path.is_file()
    del found
    gc.collect()
    assert not path.exists()


def test_a_run_from_a_file_is_bit_for_bit_the_run_from_memory(pictures, tmp_path):
    settings = ["backbone.width=4", "train.epochs=4", "train.batch_size=12", "data.size=16", "augment.blur_kernel=9"]
    fitted = []
    for name, extra in (("memory", []), ("file", [NO_ROOM])):
        r, folder = recipe.load("photos", settings + extra, clusters=3), RunFolder(tmp_path / name)
        images = open_images(pictures, 16, 3, storage=StoragePolicy(r.data.resident_gib, folder.cache))
        assert isinstance(images.images, FileRows) == (name == "file")
        fitted.append(runs.fit(r, images, folder, device="cpu"))
    for one, other in pairwise(fitted):
        assert [record["loss"] for record in one.history] == [record["loss"] for record in other.history]
        assert torch.equal(one.assigned.clusters, other.assigned.clusters)
        assert torch.equal(one.assigned.distances, other.assigned.distances)
    assert (tmp_path / "memory" / "assignments.csv").read_bytes() == (tmp_path / "file" / "assignments.csv").read_bytes()
