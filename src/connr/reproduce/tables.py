"""The paper's tables of scores: each row that is run here is a recipe with settings; the paper's numbers are in paper.yaml."""

from importlib import resources
from typing import NamedTuple

import yaml

Scores = tuple[float | None, float | None, float | None]  # NMI, ACC, ARI in percent, in the paper's order


def _published() -> dict[str, dict[str, dict[str, Scores]]]:
    """The paper's scores: table -> row -> data set -> scores."""
    text = resources.files("connr.reproduce").joinpath("paper.yaml").read_text(encoding="utf-8")
    return {
        table: {row: {data_set: tuple(scores) for data_set, scores in found.items()} for row, found in rows.items()}
        for table, rows in yaml.safe_load(text).items()
    }


PUBLISHED = _published()


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        name: as the paper has it.
        settings: laid over the table's recipe, `a.b=value`; {k} and {fraction} are the recipe's own.
        recipe: ending of the recipe's name (`-simsiam-connr`), laid on the name of the data set; "" for the recipe itself.
        data_sets: the only data sets of the table that the row is run on; empty for all.
    """

    name: str
    settings: tuple[str, ...] = ()
    recipe: str = ""
    data_sets: tuple[str, ...] = ()


class Table(NamedTuple):
    """A table: its title, the data sets that the paper shows it on, its rows, and the paper's scores of all rows.

    Attributes:
        paper: row -> data set -> scores, also of the rows that are not run here.
    """

    title: str
    data_sets: tuple[str, ...]
    rows: tuple[Row, ...]
    paper: dict[str, dict[str, Scores]] = {}  # noqa: RUF012 - never changed

    def not_run(self, data_set: str) -> list[str]:
        """The paper's rows on a data set that are not run here."""
        ours = {row.name for row in self.rows}
        return [name for name, found in self.paper.items() if name not in ours and data_set in found]


ALONE = ("method.start=1",)
LOCAL = ("method.group.neighbourhood.name=local", "method.group.neighbourhood.k={k}")
ALL = ("method.group.anchors.name=all",)
UNRELAXED = ("method.group.anchors.final={fraction}",)
ITSELF = ("method.group.neighbourhood.name=itself",)
CONTROL = "InC, stage 2's views and rates"  # InC alone keeps those of stage 1 to the end
WHOLE = "as the recipe"
MAIN = (Row("BYOL", ALONE), Row("ConNR"))

TABLES = {
    "table1": Table(
        "Five benchmarks", ("cifar10", "cifar20", "stl10", "imagenet10", "imagenet-dogs"), MAIN, PUBLISHED["table1"]
    ),
    "table2": Table(
        "Ablation",
        ("cifar10",),
        (
            Row("InC", ALONE),
            Row(CONTROL, ITSELF + ALL),
            Row("LN", LOCAL + ALL),
            Row("CnAffN", ALL),
            Row("LN + OBD", LOCAL + UNRELAXED),
            Row("LN + OBD + PR", LOCAL),
            Row("CnAffN + OBD", UNRELAXED),
            Row("CnAffN + OBD + PR"),
        ),
        PUBLISHED["table2"],
    ),
    "table4": Table(
        "Other frameworks",
        ("cifar10", "cifar20"),
        (
            Row("SimSiam", ALONE, "-simsiam-connr"),
            Row("SimSiam + ConNR", (), "-simsiam-connr"),
            Row("MoCo v2", ALONE, "-moco-connr"),
            Row("MoCo v2 + ConNR", (), "-moco-connr"),
        ),
        PUBLISHED["table4"],
    ),
    "figure3": Table(
        "Sweeps",
        ("cifar10", "imagenet-dogs"),
        (
            Row("BYOL", ALONE),
            *(Row(f"fr0 = {fr}", (f"method.group.anchors.fraction={fr}",), "", ("cifar10",)) for fr in (0.7, 0.8, 0.9, 1.0)),
            *(
                Row(
                    f"k1, k2 = {k1}, {k2}",
                    (f"method.group.neighbourhood.k1={k1}", f"method.group.neighbourhood.k2={k2}"),
                    "",
                    ("imagenet-dogs",),
                )
                for k1, k2 in ((5, 5), (10, 2), (10, 5), (20, 5), (30, 10))
            ),
            Row(WHOLE),
        ),
    ),
    "table5": Table("Tiny-ImageNet", ("tiny-imagenet",), MAIN, PUBLISHED["table5"]),
}


def rows_of(table: str, data_set: str) -> list[Row]:
    """The rows of a table that are run on a data set: on one that the paper does not show it on, every row."""
    known = TABLES[table].data_sets
    return [row for row in TABLES[table].rows if data_set not in known or not row.data_sets or data_set in row.data_sets]
