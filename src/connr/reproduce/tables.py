"""The paper's tables of scores: each row is a setting of the sockets, or a recipe of its own."""

from typing import NamedTuple

Scores = tuple[float, float, float]  # NMI, ACC, ARI in percent, in the paper's order


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        name: as the paper has it.
        settings: laid over the table's recipe, `a.b=value`; {k} is the recipe's own k.
        recipe: ending of the recipe's name (`-simsiam-connr`), laid on the name of the data set; "" for the recipe itself.
        paper: the paper's scores by data set.
    """

    name: str
    settings: tuple[str, ...]
    recipe: str
    paper: dict[str, Scores]


class Table(NamedTuple):
    """A table: its title, the data sets it is about, its rows."""

    title: str
    data_sets: tuple[str, ...]
    rows: tuple[Row, ...]


ALONE = ("train.group_from=1",)
LOCAL = ("group.neighbourhood.name=local", "group.neighbourhood.k={k}")
ALL = ("group.anchors.name=all",)
UNRELAXED = ("group.anchors.final={fraction}",)

MAIN_BYOL: dict[str, Scores] = {
    "cifar10": (79.4, 87.8, 76.6),
    "cifar20": (55.5, 53.9, 37.6),
    "stl10": (71.3, 82.5, 65.7),
    "imagenet10": (86.6, 93.9, 87.2),
    "imagenet-dogs": (63.5, 69.4, 54.8),
    "tiny-imagenet": (36.5, 19.9, 10.0),
}
MAIN_CONNR: dict[str, Scores] = {
    "cifar10": (86.7, 93.2, 86.1),
    "cifar20": (60.4, 60.4, 44.3),
    "stl10": (85.2, 92.6, 84.6),
    "imagenet10": (91.1, 96.4, 92.2),
    "imagenet-dogs": (74.4, 79.4, 66.7),
    "tiny-imagenet": (46.2, 30.8, 18.4),
}
MAIN = (Row("BYOL", ALONE, "", MAIN_BYOL), Row("ConNR", (), "", MAIN_CONNR))
SIMSIAM: dict[str, Scores] = {"cifar10": (78.6, 85.6, 73.6), "cifar20": (52.2, 48.5, 32.7)}
SIMSIAM_CONNR: dict[str, Scores] = {"cifar10": (85.2, 91.4, 83.6), "cifar20": (59.4, 59.2, 43.1)}
MOCO: dict[str, Scores] = {"cifar10": (66.9, 77.6, 60.8), "cifar20": (39.0, 39.7, 24.2)}
MOCO_CONNR: dict[str, Scores] = {"cifar10": (81.4, 88.9, 79.1), "cifar20": (52.6, 54.5, 37.7)}

TABLES = {
    "table1": Table("Five benchmarks", ("cifar10", "cifar20", "stl10", "imagenet10", "imagenet-dogs"), MAIN),
    "table2": Table(
        "Ablation",
        ("cifar10",),
        (
            Row("InC", ALONE, "", {"cifar10": (79.4, 87.8, 76.6)}),
            Row("LN", LOCAL + ALL, "", {"cifar10": (81.9, 89.6, 78.7)}),
            Row("CnAffN", ALL, "", {"cifar10": (84.6, 91.1, 82.4)}),
            Row("LN + OBD", LOCAL + UNRELAXED, "", {"cifar10": (83.9, 91.1, 82.3)}),
            Row("LN + OBD + PR", LOCAL, "", {"cifar10": (84.8, 91.6, 84.2)}),
            Row("CnAffN + OBD", UNRELAXED, "", {"cifar10": (85.7, 92.5, 85.1)}),
            Row("CnAffN + OBD + PR", (), "", {"cifar10": (86.7, 93.2, 86.1)}),
        ),
    ),
    "table4": Table(
        "Other frameworks",
        ("cifar10", "cifar20"),
        (
            Row("SimSiam", ALONE, "-simsiam-connr", SIMSIAM),
            Row("SimSiam + ConNR", (), "-simsiam-connr", SIMSIAM_CONNR),
            Row("MoCo v2", ALONE, "-moco-connr", MOCO),
            Row("MoCo v2 + ConNR", (), "-moco-connr", MOCO_CONNR),
        ),
    ),
    "figure3": Table(
        "Sweeps",
        ("cifar10",),
        (
            Row("BYOL", ALONE, "", {}),
            *(Row(f"fr0 = {fr}", (f"group.anchors.fraction={fr}",), "", {}) for fr in (0.7, 0.9, 1.0)),
            *(
                Row(f"k1, k2 = {k1}, {k2}", (f"group.neighbourhood.k1={k1}", f"group.neighbourhood.k2={k2}"), "", {})
                for k1, k2 in ((5, 5), (10, 2), (10, 5), (20, 5), (30, 10))
            ),
            Row("as the recipe", (), "", {}),
        ),
    ),
    "table5": Table("Tiny-ImageNet", ("tiny-imagenet",), MAIN),
}
