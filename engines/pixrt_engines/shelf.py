"""The engines of a bundle on disk: one builder at a time per plan, and the manifest's entry last.

    engines/NAME.plan        a plan; NAME says component, shape, and the first digits of its key
    engines/.NAME.lock       held while NAME is built
    engines/.NAME.tmp        a plan that is being written, or was when its process was killed
    engines/.manifest.lock   held while the manifest is read, extended and replaced

Whatever kills a process, a plan is not there or whole, and one without an entry is never loaded.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from pixrt.bundles.engine_files import is_plan_name, read_engine
from pixrt.bundles.engine_owner import note_own
from pixrt.bundles.engine_spec import ENGINES_FOLDER, EngineSpec
from pixrt.bundles.manifest import MANIFEST_NAME, Manifest
from pixrt.bundles.store import read_manifest
from pixrt.errors import EngineError, OutputError
from pixrt.files import atomic_write, close_to_others, make_folder, remove_leftovers, sync_folder


class Shelf:
    """The engines of the bundle in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._engines = folder / ENGINES_FOLDER

    def open(self) -> None:
        """Make the folder of the engines, and remove what killed builds left. Raises OutputError."""
        make_folder(self._engines)
        with _refusing(self._engines):
            close_to_others(self._engines)
            for left in self._engines.glob(".*.tmp"):
                with suppress(Timeout), self._lock(left.stem.removeprefix("."), timeout=0):
                    left.unlink(missing_ok=True)

    def manifest(self) -> Manifest:
        """The manifest as it is now. Raises BundleError."""
        path = self.folder / MANIFEST_NAME
        with _refusing(path):
            return read_manifest(path)

    def find(self, key: str) -> EngineSpec | None:
        """The entry of that key, if its plan is whole too, and built by this user."""
        manifest = self.manifest()
        for spec in manifest.engines:
            if spec.key == key:
                with suppress(EngineError):
                    read_engine(self.folder, spec, manifest, own_only=True)
                    return spec
        return None

    @contextmanager
    def building(self, name: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Be the only one who builds a plan, on this machine; `on_wait` is called once if another does. OutputError."""
        lock = self._lock(name, timeout=0)
        with _refusing(self._engines):
            try:
                lock.acquire()
            except Timeout:
                on_wait()
                lock.acquire(timeout=-1)
        try:
            yield
        finally:
            lock.release()

    def add(self, name: str, plan: memoryview, entry: EngineSpec) -> EngineSpec:
        """Write a plan, then its entry with size and SHA-256 filled in. Raises OutputError; called while `building`.

        An entry of an earlier plan of the name is taken out first: at no moment is a plan listed that is not there.
        """
        spec = replace(entry, bytes=plan.nbytes, sha256=hashlib.sha256(plan).hexdigest())
        self._list(spec.file, ())
        self._write(self._engines / f"{name}.plan", plan)
        try:
            note_own(spec.sha256)
        except OutputError as error:
            warnings.warn(f"the engine has to be run with --trust-engines: {error}", stacklevel=1)
        self._list(spec.file, (spec,))
        return spec

    def prune(self, components: Collection[str], keep: Collection[str]) -> None:
        """Remove engines of these components whose key is not in `keep`: entries, then plans. Raises OutputError."""
        with self._changing() as manifest:
            gone = [spec for spec in manifest.engines if spec.component in components and spec.key not in keep]
            self._replace(manifest, tuple(spec for spec in manifest.engines if spec not in gone))
            for spec in gone:
                if is_plan_name(spec.file):
                    with _refusing(self.folder / spec.file):
                        (self.folder / spec.file).unlink(missing_ok=True)

    def _list(self, file: str, entries: tuple[EngineSpec, ...]) -> None:
        """Put entries in the place of those of a plan file."""
        with self._changing() as manifest:
            others = (engine for engine in manifest.engines if engine.file != file)
            self._replace(manifest, (*others, *entries))

    @contextmanager
    def _changing(self) -> Iterator[Manifest]:
        """Be the only one who changes the manifest. It is read again, for others extend it too."""
        with _refusing(self._engines):
            lock = self._lock("manifest", timeout=-1)
            lock.acquire()
        try:
            remove_leftovers(self.folder)  # of a manifest
            yield self.manifest()
        finally:
            lock.release()

    def _replace(self, manifest: Manifest, engines: tuple[EngineSpec, ...]) -> None:
        if engines == manifest.engines:
            return
        with atomic_write(self.folder / MANIFEST_NAME) as out:
            out.write(replace(manifest, engines=engines).to_json().encode())
            close_to_others(out.fileno())

    def _write(self, path: Path, plan: memoryview) -> None:
        # A name of its own and not a random one: the next build of the plan replaces what a killed one left.
        temporary = path.with_name(f".{path.stem}.tmp")
        with _refusing(path):
            try:
                with temporary.open("wb") as file:
                    file.write(plan)
                    close_to_others(file.fileno())
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
                sync_folder(path.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def _lock(self, name: str, timeout: float) -> FileLock:
        return FileLock(self._engines / f".{name}.lock", timeout=timeout)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}",
            remedy="Copy the bundle to a folder that is writable and has free space, and build there",
        ) from error
