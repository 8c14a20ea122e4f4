"""A lean folder: model.safetensors and config.json, as `ConNR.load` and `connr predict` take them; for the Hub with a card."""

from pathlib import Path

from connr import runs
from connr.export.card import model_card
from connr.model import Model
from connr.recipe import Recipe
from connr.run_folder import RunFolder, replacing_folder, write_text


def save_lean(r: Recipe, model: Model, out: Path) -> None:
    """The model without the run: not where its images were, nor which they were."""
    with replacing_folder(out) as draft:
        runs.save_model(r, model, RunFolder(draft))


def save_for_hub(r: Recipe, model: Model, folder: RunFolder, out: Path) -> None:
    """The same, with a README.md of what the model is and how it scored, once it loads.

    Raises:
        InputError: huggingface_hub is missing.
    """
    from connr.export.model_repository import HubModel

    with replacing_folder(out) as draft:
        runs.save_model(r, model, RunFolder(draft))
        write_text(draft / "README.md", model_card(r, folder))
        HubModel.from_pretrained(draft)
