"""Texts answer as the list of them would, whatever the letters: of one byte or four, with ends and nothing between."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules.formats.class_folders import find_class_folders
from datamodules.samples import Samples
from datamodules.texts import Texts
from errors import LoupeError

#: Few letters, so that texts begin alike and repeat; NUL, spaces, slashes and letters of two, three and four bytes.
letters = st.text(alphabet=st.sampled_from("ab/\\ \t\n\0zé\u00a0Ω漢😀"), max_size=20)
lists = st.lists(letters | st.text(max_size=12), max_size=30)
prefixes = st.sampled_from(["", "photos/", "Ordner/ä "])
SPACES = " \t\n\r\v\f\x1c\x1d\x1e\x1f"


def behind(listed: list[str]) -> list[Callable[[list[str]], Texts]]:
    """Ways to the same texts whose letters lie elsewhere."""
    return [
        Texts,
        lambda some: Texts(["before", *some, "behind"])[1:-1],
        lambda some: Texts([*reversed(some), "x"]).take([*range(len(some) - 1, -1, -1)]),
        within,
    ]


def within(some: list[str]) -> Texts:
    joined, ends = b"::", []
    for text in some:
        joined += text.encode() + b","
        ends.append(len(joined) - 1)
    starts = [end - len(text.encode()) for end, text in zip(ends, some, strict=True)]
    return Texts.within(joined, np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64))


@settings(max_examples=150, deadline=None)
@given(lists, prefixes)
def test_as_a_sequence(listed: list[str], prefix: str) -> None:
    expected = [prefix + text for text in listed]
    for made in (Texts(listed, prefix=prefix), Texts(iter(listed)).with_prefix(prefix)):
        assert list(made) == expected
        assert [made[i] for i in range(-len(listed), len(listed))] == [*expected, *expected]
        assert (len(made), made == expected, made == tuple(expected)) == (len(expected), True, True)
        assert list(made[1::2]) == expected[1::2]
        assert list(made[::-1]) == expected[::-1]
        assert list(reversed(made)) == expected[::-1]
        assert pickle.loads(pickle.dumps(made)) == expected
        assert made != [*expected, "one more"]
        for text in expected[:3]:
            assert (made.index(text), made.count(text)) == (expected.index(text), expected.count(text))
        with pytest.raises(IndexError):
            made[len(listed)]
    assert [text.decode() for text in Texts(listed, prefix=prefix).encoded()] == listed


@settings(max_examples=150, deadline=None)
@given(lists, prefixes, st.data())
def test_taking_rows(listed: list[str], prefix: str, data: st.DataObject) -> None:
    places = st.lists(st.integers(-len(listed), len(listed) - 1), max_size=20) if listed else st.just([])
    rows, again = data.draw(places), data.draw(st.lists(st.integers(0, 5), max_size=5))
    taken = Texts(listed, prefix=prefix).take(rows)
    assert list(taken) == [prefix + listed[row] for row in rows]
    again = [row for row in again if row < len(rows)]
    assert list(taken.take(np.array(again, dtype=np.int64))) == [prefix + listed[rows[row]] for row in again]
    assert list(taken.with_prefix("more ")) == [f"more {prefix}{listed[row]}" for row in rows]


@settings(max_examples=200, deadline=None)
@given(lists)
def test_all_at_once(listed: list[str]) -> None:
    for make in behind(listed):
        texts = make(listed)
        assert list(texts) == listed
        assert texts.lengths().tolist() == [len(text.encode()) for text in listed]
        assert list(texts.stripped()) == [text.strip(SPACES) for text in listed]
        for letter in "/\\ab":
            assert texts.contains(letter) == any(letter in text for text in listed)
            before, last = texts.split_last(letter)
            assert list(before) == [text.rpartition(letter)[0] for text in listed]
            assert list(last) == [text.rpartition(letter)[2] for text in listed]


@settings(max_examples=200, deadline=None)
@given(lists)
def test_order_is_that_of_sorted(listed: list[str]) -> None:
    expected = sorted(range(len(listed)), key=lambda row: listed[row])  # stable: equal texts in their order
    for make in behind(listed):
        assert make(listed).order().tolist() == expected


@settings(max_examples=200, deadline=None)
@given(lists, prefixes)
def test_codes_count_in_the_order_of_first_mention(listed: list[str], prefix: str) -> None:
    different = list(dict.fromkeys(listed))
    for make in behind(listed):
        codes, names = make(listed).with_prefix(prefix).codes()
        assert names == [prefix + text for text in different]
        assert codes.tolist() == [different.index(text) for text in listed]


@settings(max_examples=200, deadline=None)
@given(lists)
@example(["\x00", "\x00\x00"])  # a seed that is added to the length makes them alike
def test_equal_texts_have_equal_hashes_and_others_do_not(listed: list[str]) -> None:
    first, *others = [make(listed) for make in behind(listed)]
    for other in others:
        assert other.hashes().tolist() == first.hashes().tolist()
        assert other.digest() == first.digest()
        assert hash(other) == hash(first)
        assert other == first
    for seed in (0, 1):
        assert len(set(first.hashes(seed).tolist())) == len(set(listed))
    if listed:
        assert not set(first.hashes(0).tolist()) & set(first.hashes(1).tolist())
    if listed != listed[::-1]:
        assert first[::-1].digest() != first.digest()
    assert Texts(listed, prefix="p").digest() != first.digest()


def test_texts_that_differ_by_what_is_not_seen() -> None:
    """NUL and the end of a text are zeros alike; neighbours' letters stand right behind an end."""
    listed = ["a", "a\0", "a\0\0", "", "\0", "a" * 8, "a" * 8 + "\0", "a" * 16, "a" * 7, "b", "a"]
    texts = Texts(listed)
    assert len(set(texts.hashes().tolist())) == 10
    assert texts.order().tolist() == [3, 4, 0, 10, 1, 2, 8, 5, 6, 7, 9]
    assert texts.codes()[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_hash_is_that_of_what_is_equal() -> None:
    assert hash(Texts(["b", "a"]).take([1])) == hash(Texts(["a"]))
    assert hash(Texts(["a"], prefix="x")) == hash(Texts(["xa"])) == hash(("xa",))


def test_nothing_and_one_many_times() -> None:
    for nothing in (Texts(), Texts([]), Texts(["a"])[:0], Texts(["a"]).take([])):
        assert (len(nothing), list(nothing), nothing.codes()[1], nothing.order().tolist()) == (0, [], [], [])
        assert list(nothing.stripped()) == list(nothing.split_last("/")[0]) == []
        assert not nothing.contains("a")
        assert len(nothing.hashes()) == 0
    many = Texts.repeat("val", 5)
    assert list(many) == ["val"] * 5
    assert many.codes()[1] == ["val"]
    assert list(many.take([4, 0])[1:]) == ["val"]
    assert Texts.of(many) is many
    assert repr(Texts(list("abcd"))) == "Texts(4: a, b, c, ...)"


def test_samples_take_rows_of_every_column() -> None:
    samples = Samples(["b", "a"], ["/b.png", "/a.png"], {"label": ["x", "y"]})
    turned = samples.take([1, 0], part="val")
    assert (turned.names, turned.paths, turned.parts) == (["a", "b"], ["/a.png", "/b.png"], ["val", "val"])
    assert turned.columns["label"] == ["y", "x"]
    assert turned == Samples(["a", "b"], ["/a.png", "/b.png"], {"label": ["y", "x"]}, ["val", "val"])


def test_a_name_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    """As an archive made elsewhere leaves it: é in Latin-1, which neither JSON nor CSV in UTF-8 can hold."""
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / label / "0.png")
    Path(tmp_path / "a" / "0.png").rename(tmp_path / "a" / b"caf\xe9.png".decode(errors="surrogateescape"))
    with pytest.raises(LoupeError, match=r"a/caf\\udce9\.png is not UTF-8; rename"):
        find_class_folders(tmp_path)


@pytest.mark.parametrize("index", [1.5, "0", None])
def test_other_indices_are_none(index: Any) -> None:
    with pytest.raises((TypeError, IndexError)):
        Texts(["a", "b"])[index]
