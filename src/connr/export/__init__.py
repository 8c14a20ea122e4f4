"""Exports a fitted model: a small folder, an ONNX file, or a folder for the Hugging Face Hub."""

from pathlib import Path

from connr import runs
from connr.data.sources import is_remote
from connr.errors import InputError
from connr.export.folder import save_for_hub, save_lean
from connr.export.onnx import save_onnx
from connr.run_folder import RunFolder, check_new, check_writable

FORMATS = ("safetensors", "onnx", "hub")

__all__ = ["FORMATS", "export"]


def export(folder: RunFolder, to: str, out: Path) -> str:
    """Exports the model of a finished run atomically and returns a description of the result.

    Args:
        folder: of a finished run, or of `ConNR.save`.
        to: `safetensors` or `hub`, a folder; `onnx`, a file.
        out: must not exist; a folder may be empty.

    Raises:
        InputError: no such format or run, `out` is taken, or an optional package is missing.
        NotTheSame: ONNX does not give torch's answers.
    """
    if to not in FORMATS:
        raise InputError(f"--to {to!r} should be one of: {', '.join(FORMATS)}.")
    if to == "onnx" and (out.suffix != ".onnx" or out.exists()):
        raise InputError(
            f"--out {out} should end in .onnx." if out.suffix != ".onnx" else f"{out} exists; choose another --out."
        )
    if to != "onnx":
        check_new(out)
    else:
        if not out.absolute().parent.is_dir():
            raise InputError(f"--out {out}: there is no folder {out.parent}.")
        check_writable(out)
    r, model = runs.load_model(folder, "cpu")
    if to == "onnx":
        source = runs.read_config(folder).data
        off = save_onnx(r, model, "" if is_remote(source) else source, out)
        shape = f"images uint8 [n,{r.data.size},{r.data.size},{r.data.channels}]"
        shape = f"rows float32 [n,{r.data.features}]" if r.takes_features else shape
        return f"{out}: {shape} -> features, cluster, distance; differs from torch by {off:.0e} at most"
    if to == "hub":
        save_for_hub(r, model, folder, out)
        return f"{out}: config.json, model.safetensors, README.md; upload it with: hf upload USER/NAME {out}"
    save_lean(r, model, out)
    return f"{out}: config.json, model.safetensors"
