"""WebDataset's shards: tar files in which the files of one sample follow each other and share a name."""

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.cache import remembered
from datamodules.formats.confines import refuse_outside
from datamodules.formats.lists import read_lines
from datamodules.images import IMAGE_SUFFIXES
from datamodules.members import PROTOCOLS, is_remote, member_entry, open_shard
from datamodules.samples import Samples, name_some, part_name
from errors import LoupeError

__all__ = ["find_shards", "read_labelled_shards", "read_shards"]

_FORMAT = 2  # counts up when what is stored changes its meaning
_TEXTS = ("cls", "txt", "label", "labels", "json")
#: What a sample's JSON does not say: where its files are is for the shard to say.
_PLACES = ("path", "mask", "name", "shard")
_LONGEST_TEXT = 10_000_000  # bytes of a label or a .json
_MASKS = ("seg", "mask")


def find_shards(root: Path, *, outside_root: bool = False) -> dict[str, str]:
    """The shards that `root` holds or lists, each with its part (empty: its name does not say); empty for none.

    A folder of `.tar` files, or of `train`, `val`, `test` with some, or a `.txt` file with a path or an address in each
    line. A shard's part is the beginning of its name, as in `train-000001.tar`, or the name of its folder. A tar file
    beside pictures, other folders or a manifest is no shard: it may be what they were unpacked from. Unless
    `outside_root`, listed paths stay in the list's folder, and addresses are of the well-known kinds.
    """
    if root.is_dir():
        return {str(file): _part_of(str(file)) for file in _tar_files(root)}
    if not (root.is_file() and root.suffix.lower() == ".txt"):
        return {}
    lines = [line.strip() for line in read_lines(root)]
    if not outside_root:
        _refuse_places(root, lines)
    shards = [line if is_remote(line) else str(root.parent / line) for line in lines if line]
    if not shards:
        raise LoupeError(f"{root} lists no shards; it is to have one .tar file or address in each line")
    return {shard: _part_of(shard) for shard in shards}


def _refuse_places(file: Path, lines: list[str]) -> None:
    """LoupeError for a path outside of the list's folder, and for an address that may be one (`file:///etc/passwd`)."""
    numbered = [(f"line {number}", line) for number, line in enumerate(lines, 1) if line]
    for where, line in numbered:
        if is_remote(line) and (line.partition("://")[0].lower() not in PROTOCOLS or "::" in line):
            raise LoupeError(
                f"{file} {where}: {line} is no address of a known kind ({', '.join(sorted(PROTOCOLS))}), and may be a "
                "file anywhere; where you trust the list, allow it by data.read.outside_root=true"
            )
    refuse_outside(file, ((where, line) for where, line in numbered if not is_remote(line)), file.parent)


def _tar_files(root: Path) -> list[Path]:
    """The tar files of a folder and of its parts; none where there is anything else to read."""
    found: list[Path] = []
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            inside = sorted(entry.glob("*.tar")) if part_name(entry.name) else []
            if not inside or any(path.is_dir() for path in entry.iterdir()):
                return []
            found += inside
        elif entry.suffix.lower() == ".tar":
            found.append(entry)
        elif entry.suffix.lower() in IMAGE_SUFFIXES or entry.stem == "manifest":
            return []
    return found


def read_labelled_shards(shards: Mapping[str, str]) -> Samples:
    """Samples with the column `labels` where the first sample has it, else `label`."""
    first = next(iter(shards))
    return read_shards(shards, "labels" if "labels" in _remembered_index(first)[0] else "label")


def read_shards(shards: Mapping[str, str], column: str) -> Samples:
    """Samples with this column: `label` (`.cls`, `.txt`), `labels`, `mask` (`.seg.png`), or for `box` `x1 y1 x2 y2`.

    A `.json` file may hold any of them by name. Each shard is looked through once; the result is remembered until it
    changes. Raises LoupeError for a file that is no tar, and a sample that lacks its picture or the column.
    """
    rows: list[dict[str, str]] = []
    parts: list[str] = []
    for shard, part in shards.items():
        found = _remembered_index(shard)
        rows += found
        parts += [part] * len(found)
    wanted = ["x1", "y1", "x2", "y2"] if column == "box" else [column]
    for row in rows:
        lacking = [name for name in ("path", *wanted) if name not in row]
        if lacking:
            raise LoupeError(
                f"{row['shard']}: the sample {row['name']} has no {', '.join(lacking)}; it has {_has(row)}"
            )
    names = [row["name"] for row in rows]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise LoupeError(f"the shards hold {name_some(twice, 'sample')} more than once")
    columns = {name: [row[name] for row in rows] for name in wanted}
    for extra in ("group", "weight"):
        if any(extra in row for row in rows):
            columns[extra] = [row.get(extra, "") for row in rows]
    return Samples(names, [row["path"] for row in rows], columns, parts)


def _remembered_index(shard: str) -> list[dict[str, str]]:
    key = hashlib.sha256(f"shards {_FORMAT} {shard} {_stamp(shard)}".encode()).hexdigest()[:32]
    found: list[dict[str, str]] = remembered("shards", key, lambda: _index(shard))
    return found


_EXTENDED = (b"L", b"K", b"x", b"g", b"X")  # long names and links, pax headers
_LONGEST_HEADER = 2**20


class _Member(tarfile.TarInfo):
    """A header whose size can be believed.

    Memory for a long name is taken as the header claims it, before anything is read. Behind a size below zero Python's
    older versions read the same again for ever:

    https://github.com/python/cpython/issues/130577 (CVE-2025-8194). Goes when each Python that is supported has
    cpython's own check, by which Debian's and others' packages are mended too.
    """

    def _block(self, count: int) -> int:
        if count < 0 or (self.type in _EXTENDED and count > _LONGEST_HEADER):
            raise tarfile.ReadError(f"a member of the size {count}")
        return super()._block(count)  # pyright: ignore


def _index(shard: str) -> list[dict[str, str]]:
    """One row a sample: the places of its files, and what its texts say."""
    rows: dict[str, dict[str, str]] = {}
    try:
        with open_shard(shard) as stream, tarfile.open(fileobj=stream, mode="r:", tarinfo=_Member) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, kind = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                row = rows.setdefault(key, {"shard": shard, "name": key})
                _add(row, kind.lower(), archive, member, shard)
    except (OSError, tarfile.TarError, ValueError, ArithmeticError, RecursionError) as error:
        raise LoupeError(f"{shard} cannot be read as a tar file (without compression): {error}") from error
    if not rows:
        raise LoupeError(f"{shard} holds no files")
    return list(rows.values())


def _add(
    row: dict[str, str], kind: str, archive: tarfile.TarFile, member: tarfile.TarInfo, shard: str
) -> None:
    if member.issparse():
        raise ValueError(f"{member.name} has holes, and its bytes are in no one place")
    first, _, last = kind.rpartition(".")
    place = member_entry(shard, member.offset_data, member.size, member.name)
    if f".{last}" in IMAGE_SUFFIXES:
        row["mask" if first in _MASKS else "path"] = place
        return
    if kind not in _TEXTS:
        return  # what others keep beside their pictures is none of ours
    if member.size > _LONGEST_TEXT:
        raise ValueError(f"{member.name} has {member.size} bytes, and a text at most {_LONGEST_TEXT}")
    stream = archive.extractfile(member)
    text = stream.read().decode("utf-8").strip() if stream else ""
    match kind:
        case "cls" | "txt" | "label":
            row["label"] = text
        case "labels":
            row["labels"] = text
        case "json":
            content = json.loads(text)
            if not isinstance(content, dict):
                raise ValueError(f"{member.name} is no object")
            said = {str(name): _plain(value) for name, value in content.items()}
            row.update({name: value for name, value in said.items() if name not in _PLACES})
        case _:
            raise AssertionError(kind)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ";".join(map(str, value))
    return "" if value is None else str(value)


def _has(row: dict[str, str]) -> str:
    return ", ".join(name for name in row if name not in ("shard", "name")) or "nothing"


def _stamp(shard: str) -> str:
    """Another text when the shard has changed: size and time of a file, the size of what is behind an address."""
    try:
        if not is_remote(shard):
            status = Path(shard).stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        with open_shard(shard) as stream:
            return str(stream.seek(0, 2))
    except OSError as error:
        raise LoupeError(f"the shard {shard} cannot be opened: {error.strerror or error}") from error


def _part_of(shard: str) -> str:
    """The part that a shard's name begins with, or its folder is called."""
    *_, folder, name = ["", *shard.rsplit("/", 2)]
    word = name.removesuffix(".tar").rstrip("0123456789").rstrip("-_")
    return part_name(word) or part_name(word.partition("-")[0]) or part_name(folder) or ""
