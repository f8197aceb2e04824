"""A folder to copy files to: on a disk, or behind an address that fsspec knows, such as ``gs://bucket/folder``."""

import contextlib
import logging
import os
import shutil
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import fsspec

from errors import LoupeError

__all__ = ["LocalFolder", "RemoteFolder", "StoredFolder", "open_folder", "try_folder"]

#: Where an upload is there whole or not at all, and a rename would be a second copy.
_OBJECT_STORES = {"gs", "gcs", "s3", "s3a", "az", "abfs", "abfss", "adl", "oci", "oss", "obs", "cos"}
#: What brings the packages for an address; others are told in fsspec's words.
_EXTRAS = {"gs": 'pip install "loupe-vision[gcs]"', "gcs": 'pip install "loupe-vision[gcs]"'}


class RemoteFolder(ABC):
    """Files by their names below one address; each is there whole or not at all.

    Attributes:
        address: As it was given, less a trailing slash.
    """

    address: str

    @abstractmethod
    def put(self, source: Path, name: str) -> None:
        """Copy a whole file here, in the place of what has this name."""

    @abstractmethod
    def copy(self, name: str, other: str) -> None:
        """Give the content of ``name`` to ``other`` as well, without sending it again."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is none to remove."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def get(self, name: str, target: Path) -> None:
        """Fetch a whole file. FileNotFoundError where it is not there."""

    def __str__(self) -> str:
        return self.address


class LocalFolder(RemoteFolder):
    """On a disk, or under a mount.

    Args:
        path: The folder; made where it is not there.
        address: What it is called to the user, where that is something else.
    """

    def __init__(self, path: Path, address: str | None = None) -> None:
        self.path = path
        self.address = address or str(path)

    def __str__(self) -> str:
        return self.address if self.address == str(self.path) else f"{self.address} (as {self.path})"

    def put(self, source: Path, name: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            shutil.copyfile(source, temporary)
            temporary.replace(target)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def copy(self, name: str, other: str) -> None:
        self.put(self.path / name, other)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        return (self.path / name).is_file()

    def get(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path / name, target)


class StoredFolder(RemoteFolder):
    """Behind an address that fsspec knows.

    Args:
        address: ``protocol://...``.

    Raises:
        LoupeError: there is no such protocol, or the package for it is missing.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        protocol = address.partition("://")[0]
        try:
            # Listings that are kept would hide what other machines have written.
            self._system: Any = fsspec.filesystem(protocol, use_listings_cache=False)
        except ImportError as error:
            fix = _EXTRAS.get(protocol, str(error))
            raise LoupeError(f"{address} needs a package that is not installed: {fix}") from error
        except ValueError as error:
            raise LoupeError(f"{address}: {error}; give gs://BUCKET/FOLDER or a folder") from error
        self._base: str = self._system._strip_protocol(self.address)
        self._whole = protocol in _OBJECT_STORES
        # Our own lines tell of a failure, once; gcsfs logs a traceback for each attempt.
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)

    def put(self, source: Path, name: str) -> None:
        target = self._path(name)
        if not self._whole:
            folder, _, last = target.rpartition("/")
            self._system.makedirs(folder, exist_ok=True)
            temporary = f"{folder}/.{last}.{os.getpid()}"
            self._system.put_file(str(source), temporary)
            self._system.mv(temporary, target)
        else:
            self._system.put_file(str(source), target)

    def copy(self, name: str, other: str) -> None:
        self._system.cp_file(self._path(name), self._path(other))

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    def exists(self, name: str) -> bool:
        try:
            self._system.info(
                self._path(name)
            )  # exists() of fsspec takes a failed connection for a missing file
        except FileNotFoundError:
            return False
        return True

    def get(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._system.get_file(self._path(name), str(target))

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"


def open_folder(address: str) -> RemoteFolder:
    """The folder behind an address or a path; nothing is written yet. LoupeError where there cannot be one.

    >>> open_folder("memory://bucket/logs/").address
    'memory://bucket/logs'
    """
    protocol, separator, rest = address.partition("://")
    if not separator or protocol in ("file", "local"):
        return LocalFolder(Path(rest if separator else address).expanduser().absolute())
    if not rest.strip("/"):
        raise LoupeError(f"{address} names no bucket; give {protocol}://BUCKET/FOLDER")
    return StoredFolder(address)


def try_folder(folder: RemoteFolder, *, within_s: float = 20) -> str:
    """Write a small file there and remove it; returns what went wrong that may pass, "" where all is well.

    Raises:
        LoupeError: for what will not pass by itself: no such bucket, no permission, no credentials.
    """
    failed: list[Exception] = []

    def write() -> None:
        name = f".loupe_writable_{os.getpid()}"
        try:
            # Through a file, as all that follows.
            folder.put(Path(__file__).with_name("__init__.py"), name)
            folder.remove(name)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(within_s)
    if thread.is_alive():
        return f"no answer from {folder} within {within_s:.0f} s"
    if not failed:
        return ""
    if _stays(failed[0]):
        raise LoupeError(f"{folder} cannot be written to: {told(failed[0])}") from failed[0]
    return f"{folder}: {told(failed[0])}"


def told(error: BaseException) -> str:
    """An error of any library in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _stays(error: Exception) -> bool:
    """Whether an error is one of the address or of permissions, not of the network."""
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError | FileExistsError):
        return True
    kind = type(error)
    if kind.__name__ == "TransportError":
        return False
    if kind.__module__.startswith("google.auth") or "Credentials" in kind.__name__:
        return True
    code = getattr(error, "code", None)
    if str(code).isdigit() and 400 <= int(str(code)) < 500:
        return int(str(code)) not in (408, 429)
    return str(error).startswith("Forbidden")  # gcsfs raises a plain OSError for 403
