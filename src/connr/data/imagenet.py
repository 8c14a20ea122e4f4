"""ImageNet-10, ImageNet-Dogs and Tiny-ImageNet: class folders of JPEGs, named by WordNet ids.

The two subsets are those of deep adaptive clustering (Chang et al., ICCV 2017), which published no list. Later papers use
the list that Contrastive Clustering (Li et al., AAAI 2021) released with its code; this is that list. Every class has 1,300
images, 13,000 and 19,500 in total.
"""

from pathlib import Path

from connr.data.named import DATASETS, BrokenDataset

IMAGENET10 = {
    "n02056570": "king penguin",
    "n02085936": "Maltese dog",
    "n02128757": "snow leopard",
    "n02690373": "airliner",
    "n02692877": "airship",
    "n03095699": "container ship",
    "n04254680": "soccer ball",
    "n04285008": "sports car",
    "n04467665": "trailer truck",
    "n07747607": "orange",
}
DOGS = {
    "n02085936": "Maltese dog",
    "n02086646": "Blenheim spaniel",
    "n02088238": "basset",
    "n02091467": "Norwegian elkhound",
    "n02097130": "giant schnauzer",
    "n02099601": "golden retriever",
    "n02101388": "Brittany spaniel",
    "n02101556": "clumber",
    "n02102177": "Welsh springer spaniel",
    "n02105056": "groenendael",
    "n02105412": "kelpie",
    "n02105855": "Shetland sheepdog",
    "n02107142": "Doberman",
    "n02110958": "pug",
    "n02112137": "chow",
}
SUBSETS = {"imagenet10": IMAGENET10, "imagenet-dogs": DOGS}
PLACES = (
    "train",
    "imagenet/train",
    "ILSVRC2012/train",
    "ILSVRC/Data/CLS-LOC/train",
    "",
)  # possible parents of the class folders
TINY = "tiny-imagenet-200"


def class_folders(name: str, root: Path) -> dict[str, Path]:
    """Maps the name of every class of the data set to its folder.

    Raises:
        BrokenDataset: class folders are missing.
    """
    if name == "tiny-imagenet":
        place = next((each for each in (root / TINY / "train", root / "train") if each.is_dir()), None)
        if place is None:
            raise BrokenDataset(f"{TINY}/train is missing")
        folders = {folder.name: folder for folder in sorted(place.iterdir()) if folder.is_dir()}
        if len(folders) != DATASETS[name].classes:
            raise BrokenDataset(f"{TINY}/train has {len(folders)} class folders, should have {DATASETS[name].classes}")
        return folders
    wanted = SUBSETS[name]
    place = max((root / each for each in PLACES), key=lambda each: sum((each / wnid).is_dir() for wnid in wanted))
    missing = [wnid for wnid in wanted if not (place / wnid).is_dir()]
    if missing:
        raise BrokenDataset(
            f"{len(missing)} of {len(wanted)} class folders are missing, {missing[0]} ({wanted[missing[0]]}) is the first"
        )
    return {wanted[wnid]: place / wnid for wnid in wanted}
