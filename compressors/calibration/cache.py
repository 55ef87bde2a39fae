"""A cache by content: tensors that were costly to make, under a digest of all they depend on.

In memory the least recently used go first; with a folder, everything is kept on disk too, where
processes share it: a file a key, written whole or not at all, the oldest removed beyond a bound.
A file that cannot be read is as good as none; files of another `generation` of the code are not
found, and leave as they grow old. Knows nothing of what it holds.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from safetensors import SafetensorError
from safetensors.torch import load as unpack
from safetensors.torch import save as pack
from torch import Tensor

from compressors.calibration import digest

MEMORY_BYTES = 2**29
DISK_BYTES = 2**32
SWEEP_SHARE = 16  # of the bound on disk, written between two looks at the folder's size
SUFFIX = ".safetensors"
Tensors = Mapping[str, Tensor]


class ContentCache:
    """Named tensors by key; `made` and `found` count what was computed and what was not.

    What it gives out is shared: nobody may write into it.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
        generation: str = "",
    ) -> None:
        self.made = 0
        self.found = 0
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes
        self._generation = generation
        self._held: OrderedDict[str, Tensors] = OrderedDict()
        self._bytes = 0
        self._unswept = disk_bytes  # bytes written since the last look, at first all there may be
        self._lock = Lock()  # of what is held in memory

    def remembered(self, key: str, make: Callable[[], Tensors]) -> Tensors:
        """What lies under the key, made now if nothing does."""
        known = self.get(key)
        if known is not None:
            return known
        made = make()
        self.made += 1
        self.put(key, made)
        return made

    def get(self, key: str) -> Tensors | None:
        """What lies under the key, if anything."""
        known = self._held_under(key)
        if known is None:
            known = self._read(key)
            if known is not None:
                self._hold(key, known)
        self.found += known is not None
        return known

    def put(self, key: str, tensors: Tensors) -> None:
        """Keep tensors under a key."""
        self._hold(key, tensors)
        if self._folder is not None:
            with suppress(OSError):  # a full disk costs time, not the trial
                self._write(self._path(self._folder, key), tensors)

    def _held_under(self, key: str) -> Tensors | None:
        with self._lock:
            known = self._held.get(key)
            if known is not None:
                self._held.move_to_end(key)
            return known

    def _hold(self, key: str, tensors: Tensors) -> None:
        with self._lock:
            self._bytes -= size(self._held.pop(key, {}))
            if size(tensors) > self._memory_bytes:  # would push out all the others, and itself
                return
            self._held[key] = tensors
            self._bytes += size(tensors)
            while self._bytes > self._memory_bytes:
                _, dropped = self._held.popitem(last=False)
                self._bytes -= size(dropped)

    def _path(self, folder: Path, key: str) -> Path:
        name = digest.of_text(self._generation, key)
        return folder / name[:2] / f"{name}{SUFFIX}"

    def _read(self, key: str) -> Tensors | None:
        if self._folder is None:
            return None
        path = self._path(self._folder, key)
        try:
            tensors = unpack(path.read_bytes())
        except (OSError, SafetensorError, ValueError):
            return None
        with suppress(OSError):  # the folder may be another user's, to be read alone
            os.utime(path)
        return tensors

    def _write(self, path: Path, tensors: Tensors) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(pack(_apart(tensors)))
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._unswept += size(tensors)
        if self._unswept * SWEEP_SHARE >= self._disk_bytes:
            self.sweep()
            self._unswept = 0

    def sweep(self) -> None:
        """Remove the files that were not used for longest, beyond the bound."""
        if self._folder is None:
            return
        files = []
        for path in self._folder.glob("*/*"):
            with suppress(OSError):  # another process may have removed it
                facts = path.stat()
                files.append((facts.st_mtime, facts.st_size, path))
        total = sum(length for _, length, _ in files)
        for _, length, path in sorted(files):
            if total <= self._disk_bytes:
                return
            with suppress(OSError):
                path.unlink()
            total -= length


def _apart(tensors: Tensors) -> dict[str, Tensor]:
    """The tensors as they can be written: no two of them in the same memory."""
    found, seen = {}, set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return found


def size(tensors: Tensors) -> int:
    """Bytes of named tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
