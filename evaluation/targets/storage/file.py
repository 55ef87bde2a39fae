"""The packed file: a graph without weights, and every weight as its entry says.

Safetensors, so that reading one runs no code: three tensors (`graph`, an ONNX model; `packed`,
whole numbers bit by bit; `floats`) and the entries as JSON, with a note where a target leaves one
for itself. Nothing is compressed further (zip
would find what entropy the codes have left), for a file's size must be what the policy buys.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from compressors.errors import UserError
from evaluation.targets.storage.bits import Array
from evaluation.targets.storage.coded import Coded, decode
from evaluation.targets.storage.records import Entry, get_coded, get_float, put_coded, put_float
from evaluation.targets.storage.streams import Reader, Writer

FORMAT = "paredown-storage"
VERSION = 1
DAMAGE = (SafetensorError, DecodeError, ValueError, KeyError, TypeError, IndexError, AttributeError)


@dataclass(frozen=True)
class Weight:
    """How a weight of the graph is stored."""

    coded: Coded | None  # None: as floats
    function: str = ""
    values: Array | None = None  # the floats, as the torch layer has them
    turned: bool = False  # the graph has it transposed

    def decoded(self) -> Array:
        """The floats as the graph has them."""
        values = self.values if self.coded is None else decode(self.coded)
        assert values is not None
        return np.ascontiguousarray(values.T) if self.turned else values


def write(model: onnx.ModelProto, weights: list[Weight], note: Any = None) -> bytes:
    """The file of a model whose initializers are float weights, some of them stored as told.

    The note is JSON-ready.
    """
    known = {_content(weight.decoded()): weight for weight in weights}
    graph, writer, entries = onnx.ModelProto(), Writer(), []
    graph.CopyFrom(model)
    del graph.graph.initializer[:]
    written: dict[Any, str] = {}
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < 2:
            graph.graph.initializer.append(initializer)
            continue
        weight = known.get(_content(values), Weight(None, values=values))
        entries.append({"name": initializer.name, **_entry(weight, writer, written, initializer)})
    return _file(graph.SerializeToString(), entries, writer, note)


def read(path: Path) -> onnx.ModelProto:
    """The float model of a file, with the weights that the codes stand for."""
    with _mendable(path):
        return _read(path)


def note_of(path: Path) -> Any:
    """The note that the file was written with; None: it has none."""
    with _mendable(path):
        return _open(path)[0].get("note")


@contextmanager
def _mendable(path: Path) -> Iterator[None]:
    """A file that is none, or damaged, is the user's to mend."""
    if not path.is_file():
        raise UserError(f"There is no model file '{path}'; build it first, or name another.")
    try:
        yield
    except DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"The storage target cannot load '{path}': {reason}.") from error


def _entry(weight: Weight, writer: Writer, written: dict[Any, str], at: onnx.TensorProto) -> Entry:
    """A weight's entry; one that is there already, perhaps transposed, is told by its name."""
    values = weight.decoded()
    plain = _content(values.T if weight.turned else values)
    turned = {"turned": True} if weight.turned else {}
    if plain in written:
        return {"same": written[plain], **turned}
    written[plain] = at.name
    if weight.coded is not None:
        return {**put_coded(weight.coded, weight.function, writer), **turned}
    return {**put_float(values.T if weight.turned else values, writer), **turned}


def _content(values: Array) -> tuple[tuple[int, ...], bytes]:
    return values.shape, values.tobytes()


def _file(graph: bytes, entries: list[Entry], writer: Writer, note: Any) -> bytes:
    packed, floats = writer.streams()
    tensors = {"graph": np.frombuffer(graph, np.uint8), "packed": packed, "floats": floats}
    noted = {} if note is None else {"note": note}
    about = {"version": VERSION, **noted, "weights": entries}
    about["check"] = _check(tensors, about)
    return save(tensors, {FORMAT: _json(about)})


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _check(tensors: dict[str, Array], about: dict[str, Any]) -> int:
    check = zlib.crc32(_json(about["weights"]).encode())
    if "note" in about:
        check = zlib.crc32(_json(about["note"]).encode(), check)
    for name in ("graph", "packed", "floats"):
        check = zlib.crc32(tensors[name].tobytes(), check)
    return check


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """What the file says of itself, held against what it has, and its tensors."""
    with safe_open(path, "numpy") as file:
        about = json.loads((file.metadata() or {})[FORMAT])
        tensors = {name: file.get_tensor(name) for name in ("graph", "packed", "floats")}
    if about["version"] != VERSION:
        raise ValueError(f"its version is {about['version']}, and this reads {VERSION}")
    if about["check"] != _check(tensors, about):
        raise ValueError("its contents are damaged")
    return about, tensors


def _read(path: Path) -> onnx.ModelProto:
    about, tensors = _open(path)
    model = onnx.load_from_string(tensors["graph"].tobytes())
    reader = Reader(tensors["packed"], tensors["floats"])
    plain: dict[str, Array] = {}
    for entry in about["weights"]:
        name = entry["name"]
        plain[name] = plain[entry["same"]] if "same" in entry else _values(entry, reader)
        values = plain[name].T if entry.get("turned") else plain[name]
        made = numpy_helper.from_array(np.ascontiguousarray(values), name)
        model.graph.initializer.append(made)
    if not reader.at_end():
        raise ValueError("it has more than its weights need")
    return model


def _values(entry: Entry, reader: Reader) -> Array:
    return get_coded(entry, reader) if "bits" in entry else get_float(entry, reader)
