"""Charts: what they say, that they say it of the right classes, and that a page can hold many of them."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from PIL import Image

import figures
from figures import (
    class_chart,
    confusion_chart,
    history_chart,
    lettering,
    palette,
    precision_recall_chart,
    reliability_chart,
    to_png,
    to_svg,
)
from figures.canvas import INK, SERIES

ROOT = Path(figures.__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"
HALVES = np.linspace(0, 1, 50)
TABLE = np.array([[0, 0, 0]] * 10 + [[10, 4, 7.1], [20, 15, 15.0], [0, 0, 0], [5, 5, 4.4], [5, 4, 4.9]])

CHARTS: dict[str, Callable[[list[str]], Figure]] = {
    "confusion": lambda names: confusion_chart(np.eye(len(names)) * 5 + 1, names),
    "classes": lambda names: class_chart(
        names,
        {"IoU": np.full(len(names), 0.5)},
        {"IoU": (np.full(len(names), 0.4), np.full(len(names), 0.6))},
    ),
    "curves": lambda names: precision_recall_chart([(n, HALVES, 1 - HALVES / 2, 0.7) for n in names]),
    "reliability": lambda names: reliability_chart(TABLE, 0.05),
    "history": lambda names: history_chart(
        {n: (np.arange(3), np.arange(3.0)) for n in names[:2]}, title=names[0]
    ),
}


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def says(figure: Figure, part: str) -> bool:
    return part in " ".join(words(figure))


@pytest.mark.parametrize("kind", CHARTS)
@pytest.mark.parametrize("number", [2, 3, 40, 1000])
def test_every_chart_becomes_a_picture_and_a_part_of_a_page(kind: str, number: int) -> None:
    names = [f"class {n}" for n in range(number)]
    figure = CHARTS[kind](names)
    picture = Image.open(io.BytesIO(to_png(figure)))
    width, height = figure.get_size_inches()
    assert picture.size == (int(width * 130), int(height * 130))
    assert np.asarray(picture.convert("RGB"))[0, 0].tolist() == [255, 255, 255]
    assert height < 9 and width < 9
    root = ElementTree.fromstring(to_svg(figure, title="a title", description="<what> it & shows"))
    assert len(list(root.iter())) > 20


@pytest.mark.parametrize("kind", CHARTS)
def test_an_svg_fits_into_any_page(kind: str) -> None:
    figure = CHARTS[kind](["one", "two"])
    text = to_svg(figure, title='T <1> & "2"', description="what it shows")
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    assert root.get("width") is None and root.get("height") is None
    assert re.fullmatch(r"0 0 [\d.]+ [\d.]+", root.get("viewBox", ""))
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None and title.text == 'T <1> & "2"'
    assert description is not None and description.text == "what it shows"
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert not root.findall(f".//{SVG}style"), "a style is the whole page's"
    assert INK not in text and "currentColor" in text
    assert "#ffffff" not in text, "no ground of its own"
    assert "image" not in {element.tag for element in root.iter()}
    shown = " ".join(t for element in root.iter(f"{SVG}text") for t in element.itertext())
    assert all(word in shown for word in " ".join(words(figure)).split() if word.isalpha())


def test_many_charts_share_one_page() -> None:
    charts = [chart(["one", "two"]) for chart in CHARTS.values()] * 2
    texts = [to_svg(figure, title=f"chart {n}", description="d") for n, figure in enumerate(charts)]
    page = "".join(texts)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page))
    assert used and {a or b for a, b in used} <= set(ids)
    assert texts[0] == to_svg(charts[0], title="chart 0", description="d"), "the same each time"


def contrast(colour: str, ground: str) -> float:
    """WCAG 2.1's contrast ratio, 1 to 21."""

    def luminance(code: str) -> float:
        values = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colour", SERIES)
@pytest.mark.parametrize("ground", ["#ffffff", "#17191c"])
def test_lines_and_bars_stand_out_from_light_and_dark(colour: str, ground: str) -> None:
    assert contrast(colour, ground) >= 3


# --- what the charts say ---


def test_a_confusion_matrix_says_where_each_class_went() -> None:
    figure = confusion_chart(np.array([[3.0, 1.0, 0], [0, 4, 4], [0, 0, 0]]), ["cat", "dog", "owl"])
    shown = words(figure)
    assert {"cat  4", "dog  8", "owl  0"} <= set(shown)
    assert sorted(word for word in shown if word.isdigit()) == ["25", "50", "50", "75"]
    assert says(figure, "absent") and says(figure, "predicted") and says(figure, "true")


def test_of_many_classes_those_with_the_most_mistakes_are_shown() -> None:
    confusion = np.eye(50) * 100
    confusion[7, 31] = 60
    confusion[12, 3] = 5
    figure = confusion_chart(confusion, [f"class {n}" for n in range(50)])
    assert says(figure, "20 of 50 classes")
    shown = set(words(figure))
    assert {"class 7", "class 31", "class 12", "class 3", "other 30"} <= shown
    assert {"class 7  160", "other 30  3000"} <= shown
    assert "class 40" not in shown
    assert {"62", "38", "95", "5", "100"} == {word for word in shown if word.isdigit()}


def test_an_absent_class_has_no_bar() -> None:
    figure = class_chart(["cat", "dog", "owl"], {"IoU": np.array([0.25, np.nan, 0.0])})
    assert {"0.250", "absent", "0.000", "cat", "dog", "owl"} <= set(words(figure))


def test_of_many_classes_the_lowest_are_shown_and_absent_ones_last() -> None:
    values = np.linspace(1, 0.5, 100)
    values[99] = np.nan
    figure = class_chart([f"class {n}" for n in range(100)], {"recall": values, "precision": values[::-1]})
    shown = words(figure)
    assert says(figure, "The 24 lowest of 100 classes by recall")
    assert [word for word in shown if re.fullmatch(r"class \d+", word)] == [
        f"class {n}" for n in range(98, 74, -1)
    ]


def test_scores_beyond_one_have_room() -> None:
    figure = class_chart(["cat", "dog"], {"pixels": np.array([2.0, 30.0])})
    assert figure.axes[0].get_xlim() == (0, 30)


def test_names_that_differ_are_told_apart() -> None:
    names = [f"a_very_long_name_of_the_class_{n:03d}_and_more_that_is_the_same_for_all" for n in range(12)]
    names.append("x" * 300)
    for figure in (confusion_chart(np.eye(13), names), class_chart(names, {"IoU": np.ones(13)})):
        numbers = [match[0] for word in words(figure) if (match := re.search(r"_\d\d\d", word))]
        assert len(set(numbers)) == 12
        assert max(map(len, words(figure))) < 75


def test_of_many_curves_the_lowest_are_shown() -> None:
    curves = [(f"c{n}", HALVES, 1 - HALVES, 1 - n / 20) for n in range(12)]
    curves.append(("gone", HALVES[:0], HALVES[:0], float("nan")))
    figure = precision_recall_chart(curves)
    assert says(figure, "The 8 of 12 classes with the lowest average precision. 1 class is absent.")
    assert [w for w in words(figure) if w.startswith("c")] == [
        f"c{n}: average precision {1 - n / 20:.3f}" for n in range(11, 3, -1)
    ]


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_steps() -> None:
    recall = np.repeat(np.linspace(0, 1, 300), 100)
    precision = 1 - np.linspace(0, 0.5, 30_000)
    figure = precision_recall_chart([("a", recall, precision, 0.7)])
    x, y = figure.axes[0].lines[0].get_data()
    assert len(x) <= 405 and (x[0], y[0], x[-1], y[-1]) == (0, 1, 1, 0.5)
    assert np.abs(np.diff(y)).max() < 0.01


def test_reliability_shows_what_was_right() -> None:
    figure = reliability_chart(TABLE, 0.0625)
    above, below = figure.axes
    heights = [bar.get_height() for bar in above.patches]  # pyright: ignore
    assert heights == [0.4, 0.75, 1.0, 0.8]
    assert above.lines[0].get_xdata() == pytest.approx([0.71, 0.75, 0.88, 0.98])  # pyright: ignore
    assert sum(bar.get_height() for bar in below.patches) == pytest.approx(1)  # pyright: ignore
    assert says(figure, "0.062") and says(figure, "40 answers")


def test_charts_of_nothing_say_so() -> None:
    assert says(precision_recall_chart([]), "no class is there")
    assert says(history_chart({"val": (np.arange(2), np.full(2, np.nan))}, title="iou"), "no values")
    assert says(reliability_chart(np.zeros((15, 3)), float("nan")), "no calibration error")
    for figure in (precision_recall_chart([]), reliability_chart(np.zeros((15, 3)), float("nan"))):
        assert to_png(figure)


def test_a_history_keeps_its_gaps_and_marks_the_best() -> None:
    lines = {
        "train": (np.arange(4), np.array([4, np.nan, 2, np.inf])),
        "val": (np.arange(2), np.array([1.0, 3])),
    }
    figure = history_chart(lines, title="loss", best_x=1)
    train, val, best = figure.axes[0].lines
    assert np.isnan(train.get_ydata()[[1, 3]]).all()  # pyright: ignore
    assert train.get_linestyle() != val.get_linestyle()
    assert set(best.get_xdata()) == {1}  # pyright: ignore
    assert {"train", "val", "best", "epoch", "loss"} <= set(words(figure))


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([900.0, 30, 2], "log"),
        ([0.01, 0.5, 0.9], "linear"),
        ([900.0, 0.0, 2], "linear"),
        ([9.0, 8, 7], "linear"),
    ],
)
def test_a_history_is_logarithmic_where_it_falls_far(values: list[float], scale: str) -> None:
    figure = history_chart({"train": (np.arange(3), np.array(values))}, title="loss")
    assert figure.axes[0].get_yscale() == scale
    assert says(figure, "logarithmic") == (scale == "log")
    assert not any("$" in word for word in words(figure))


# --- any name ---


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(min_size=0, max_size=40), min_size=2, max_size=4))
def test_any_names_can_be_drawn(names: list[str]) -> None:
    figure = class_chart(names, {"IoU": np.full(len(names), 0.5)})
    assert to_png(figure)
    ElementTree.fromstring(to_svg(figure, title=names[0], description=names[-1]))


@pytest.mark.parametrize("kind", CHARTS)
def test_names_are_no_markup(kind: str) -> None:
    names = ["$x_{2}$ <b>", "100 % & \\alpha \udcff \n tab"]
    text = to_svg(CHARTS[kind](names), title=names[0], description=names[1])
    shown = "".join(ElementTree.fromstring(text).itertext())
    assert "$x_{2}$ <b>" in shown and "\udcff" not in shown
    assert to_png(CHARTS[kind](names))


def test_a_letter_is_taken_from_a_font_that_has_it(tmp_path: Path) -> None:
    letter = "\u4e2d"
    file = tmp_path / "square.ttf"
    pen = TTGlyphPen(None)
    for place, point in enumerate([(100, 0), (900, 0), (900, 800), (100, 800)]):
        (pen.lineTo if place else pen.moveTo)(point)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(letter): "square"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Loupe Square", "styleName": "Regular"})
    font.setupOS2(usWeightClass=400)
    font.setupPost()
    font.save(file)
    fonts = list(fontManager.ttflist)
    lettering._font_with.cache_clear()
    try:
        # Only this font may have the letter, whatever fonts the machine has.
        fontManager.ttflist = [f for f in fonts if f.name == "DejaVu Sans"]
        fontManager.addfont(file)
        assert lettering.fallback_families(f"a {letter}") == ["DejaVu Sans", "Loupe Square"]
        assert lettering.text_length(letter, 20) == 20
        chart = to_png(class_chart([letter * 3, "b"], {"IoU": np.ones(2)}))
        picture = np.asarray(Image.open(io.BytesIO(chart)).convert("L"))
        assert (picture[:, :60] < 60).sum() > 300, "three black squares"
    finally:
        fontManager.ttflist = fonts
        lettering._font_with.cache_clear()


# --- beside others ---


def test_the_settings_of_the_process_are_neither_used_nor_changed() -> None:
    plain = to_png(CHARTS["classes"](["a", "b"]))
    with mpl.rc_context(
        {"text.usetex": True, "font.size": 40, "axes.facecolor": "red", "savefig.bbox": "tight"}
    ):
        before = dict(mpl.rcParams)
        assert to_png(CHARTS["classes"](["a", "b"])) == plain
        assert to_svg(CHARTS["classes"](["a", "b"]), title="t", description="d")
        assert dict(mpl.rcParams) == before


def test_importing_figures_loads_no_matplotlib_and_drawing_no_pyplot() -> None:
    code = (
        "import sys, numpy as np, figures; assert 'matplotlib' not in sys.modules; "
        "image = figures.ClassShown(np.zeros((4, 4, 3), np.uint8), 'a.png', ('a',), ('b',), 0.5); "
        "figures.draw_sheet([image], ['a', 'b'], title='t'); assert 'matplotlib' not in sys.modules; "
        "figures.to_png(figures.class_chart(['a', 'b'], {'IoU': np.ones(2)})); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_colours_of_classes_are_distinct() -> None:
    colours = palette()
    assert colours[0] == (0, 0, 0) and colours[255] == (255, 255, 255) and len(colours) == 256
    assert len(set(colours[:60])) == 60


@pytest.mark.parametrize(
    "path", [*ROOT.glob("figures/*.py"), *ROOT.glob("callbacks/*.py")], ids=lambda path: path.stem
)
def test_what_is_slow_to_load_is_loaded_only_by_who_draws(path: Path) -> None:
    top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name.split(".")[0] for node in top for name in [getattr(node, "module", None) or node.names[0].name]
    }
    assert not names & {"matplotlib", "captum"}
