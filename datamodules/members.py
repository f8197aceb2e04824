"""Files inside shards: a picture named by its shard, and where in it its bytes lie."""

import re
from pathlib import Path
from typing import Any

__all__ = ["PROTOCOLS", "file_of", "is_remote", "member_entry", "open_shard", "read_member"]

#: The addresses of other machines; fsspec knows more, some of which are names of local files.
PROTOCOLS = frozenset(
    {
        "abfs",
        "abfss",
        "adl",
        "az",
        "gcs",
        "gs",
        "hdfs",
        "hf",
        "http",
        "https",
        "memory",
        "oci",
        "oss",
        "s3",
        "s3a",
    }
)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://")
_ENTRY = re.compile(r"(?P<shard>.+)!(?P<offset>\d+)\+(?P<size>\d+)!(?P<name>.+)", re.DOTALL)


def member_entry(shard: str, offset: int, size: int, name: str) -> str:
    """The text by which a file inside a shard is known, wherever a path could stand.

    >>> file_of(member_entry("data/train-0.tar", 1536, 20480, "cat/a.jpg"))
    'data/train-0.tar'
    """
    return f"{shard}!{offset}+{size}!{name}"


def file_of(path: str | Path) -> str:
    """The shard of such a text, and any other path as it is: what changes when the picture changes."""
    found = _ENTRY.fullmatch(str(path)) if "!" in str(path) else None
    return found["shard"] if found else str(path)


def is_remote(path: str | Path) -> bool:
    """Whether a path is an address, as in `s3://bucket/train-0.tar`."""
    return "://" in str(path) and _ADDRESS.match(str(path)) is not None


def read_member(path: str | Path) -> bytes | None:
    """The bytes of a file inside a shard; None for any other path. OSError where they cannot be had, or not all."""
    found = _ENTRY.fullmatch(str(path)) if "!" in str(path) else None
    if found is None:
        return None
    offset, size = int(found["offset"]), int(found["size"])
    with open_shard(found["shard"]) as stream:
        there = max(0, stream.seek(0, 2) - offset)
        stream.seek(offset)
        data: bytes = stream.read(min(size, there))  # memory is taken for what is asked for
    if len(data) < size:
        raise OSError(f"the shard ends within {found['name']}")
    return data


def open_shard(shard: str) -> Any:
    """A stream of a local shard, or of a remote one by fsspec, which fetches the parts that are read.

    OSError where it cannot be opened, also where fsspec lacks what the address needs (s3fs, gcsfs, aiohttp).
    """
    if not is_remote(shard):
        return Path(shard).open("rb")
    import fsspec

    try:
        files: Any = fsspec.open(shard, "rb", block_size=2**18)
        return files.open()
    except (ImportError, ValueError) as error:
        raise OSError(f"{error}") from error
