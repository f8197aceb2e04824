"""What the terminal shows: the bar as a screen would have it, colour only where it is wanted, plain lines in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callbacks.progress_lines import ProgressLines

Loupe = Callable[..., Any]
QUICK = ["training.epochs=2", "training.batch_size=2", "--training.tensorboard=false"]
RUN = Path("runs/seg_unet/version_0")
ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Screen:
    """As much of a terminal as the bar needs: lines, a cursor that goes up and back, lines that are erased.

    Any other escape sequence than those and colours is an error. ``drawn`` holds the lines that stood there each time
    before something was erased.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.row = self.column = 0
        self.colours: set[str] = set()
        self.drawn: list[list[str]] = []
        self._erasing = False

    def feed(self, text: str) -> Screen:
        place = 0
        while place < len(text):
            code = ESCAPE.match(text, place)
            if code:
                self._obey(code.group(1), code.group(2))
                place = code.end()
            else:
                self._put(text[place])
                place += 1
        return self

    def _obey(self, argument: str, command: str) -> None:
        match command:
            case "m":
                self.colours.add(argument)
            case "A":
                self.row -= int(argument or 1)
            case "K" if argument == "2":
                if not self._erasing:
                    self.drawn.append([line for line in self.lines if line])
                self.lines[self.row] = ""
                self._erasing = True
            case _:
                raise AssertionError(f"ESC [{argument}{command}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
            return
        if character == "\n" or self.column == self.columns:
            self.row, self.column = self.row + 1, 0
            self.lines += [""] * (self.row + 1 - len(self.lines))
            if character == "\n":
                return
        self._erasing = False
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
        self.column += 1


class Terminal:
    """A pseudo-terminal as this process's stdout and stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int, *, stdout: bool) -> None:
        self.written = b""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._stream = os.fdopen(theirs, "w", encoding="utf-8")
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        monkeypatch.setattr(sys, "stderr", self._stream)
        if stdout:
            monkeypatch.setattr(sys, "stdout", self._stream)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # Linux tells of the end so
                return
            if not data:
                return
            self.written += data

    def text(self) -> str:
        self._stream.close()
        self._reader.join(20)
        os.close(self._ours)
        return self.written.decode()


@pytest.fixture
def seen(loupe: Loupe, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Everything that a command writes to a terminal of so many columns."""

    def run(*words: str, columns: int = 80, stdout: bool = True, **variables: str) -> str:
        for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), **variables}.items():
            monkeypatch.setenv(name, value)
        with monkeypatch.context() as patch:
            terminal = Terminal(patch, columns, stdout=stdout)
            try:
                outcome = loupe(*words)
            finally:
                text = terminal.text()
        assert outcome.code == 0, text
        seen_out.append(outcome.out)
        return text

    seen_out: list[str] = []
    run.out = seen_out  # pyright: ignore[reportFunctionMemberAccess]
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    return run


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_bar_of_a_fit(seen: Callable[..., str], tiny_words: list[str], columns: int) -> None:
    screen = Screen(columns).feed(seen("fit", *tiny_words, *QUICK, columns=columns))
    bars = [lines for lines in screen.drawn if any("images/s" in line for line in lines)]
    newest = [lines[-1 if columns == 200 else -2 :] for lines in bars]
    text = ["".join(lines) for lines in newest]
    second = [line for line in text if "epoch 2/2  " in line and "4/4" in line]
    assert second, text
    assert re.search(
        r"epoch 2/2 +━+ +4/4 +[\d.]+ images/s +0:00 left +run 0:0\d left +loss \d\.\d{4} +val/iou \d\.\d{4} +lr ",
        second[-1],
    )
    assert any("epoch 1/2 validation" in line for line in text)
    assert not any("val/iou" in line for line in text if "epoch 1/2  " in line), "it is not known yet"
    assert max(len(line) for lines in newest for line in lines) < columns
    left = "\n".join(screen.lines)
    assert "images/s" not in left and "━" not in left, "the bar is gone in the end"
    assert left.count("epoch 1/2") == left.count("epoch 2/2") == 1 and "best  " in left
    assert left.index("model: ") < left.index("time: about") < left.index("epoch 2/2") < left.index("best  ")
    assert screen.colours - {"0"}


def test_no_color_means_cursor_movement_alone(seen: Callable[..., str], tiny_words: list[str]) -> None:
    screen = Screen(80).feed(seen("fit", *tiny_words, *QUICK, NO_COLOR="1"))
    assert not screen.colours and screen.drawn


def test_a_terminal_that_cannot_move_its_cursor(seen: Callable[..., str], tiny_words: list[str]) -> None:
    text = seen("fit", *tiny_words, *QUICK, TERM="dumb")
    assert "\x1b" not in text and "images/s" not in text
    assert text.count("epoch 1/2") == text.count("epoch 2/2") == 1


def test_what_goes_into_a_file_stays_plain(seen: Callable[..., str], tiny_words: list[str]) -> None:
    text = seen("fit", *tiny_words, *QUICK, stdout=False)
    (out,) = seen.out  # pyright: ignore[reportFunctionMemberAccess]
    assert "\x1b" not in out and "images/s" not in out
    assert out.count("\nepoch ") == 2 and "epoch 2/2  " in ESCAPE.sub("", text), "the bar is on stderr"
    assert "best  " not in text


@pytest.mark.parametrize("force", ["", "1"])
def test_a_pipe_has_one_line_an_epoch(
    loupe: Loupe, tiny_words: list[str], monkeypatch: pytest.MonkeyPatch, force: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", force)
    outcome = loupe("fit", *tiny_words, *QUICK, "training.epochs=3", "--trainer.enable_progress_bar=true")
    assert outcome.code == 0 and outcome.err == ""
    assert "\x1b" not in outcome.out and "\r" not in outcome.out
    lines = [line for line in outcome.out.split("\n\n")[1].splitlines() if not line.startswith("note: ")]
    figures = r"  \d+\.\d s  train/loss \d\.\d{4}  val/loss \d\.\d{4}  val/iou \d\.\d{4}"
    assert [re.sub(figures, "", line) for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]


@pytest.mark.parametrize("name", ["TQDMProgressBar", "RichProgressBar"])
@pytest.mark.parametrize("piped", [True, False])
def test_a_bar_of_the_users(
    loupe: Loupe, seen: Callable[..., str], tiny_words: list[str], name: str, piped: bool
) -> None:
    words = ["fit", *tiny_words, *QUICK, f"--trainer.callbacks+={name}"]
    if piped:
        outcome = loupe(*words)
        assert outcome.code == 0, outcome.err
        text = outcome.out + outcome.err
    else:
        text = seen(*words)
    if not (piped and name == "RichProgressBar"):
        assert "Epoch 1" in text
    if name == "TQDMProgressBar":  # rich cuts it off at so few columns
        assert re.search(r"(?<!/)\bloss=\d", text), "ours reads the loss itself; these want it logged"
    assert "images/s" not in text and "epoch 2/2" not in text


def test_no_bar_where_none_is_wanted(seen: Callable[..., str], tiny_words: list[str]) -> None:
    text = seen("fit", *tiny_words, *QUICK, "--trainer.enable_progress_bar=false")
    screen = Screen(80).feed(text)
    assert not screen.drawn and text.count("epoch 2/2") == 1


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_bar_of_other_commands(
    loupe: Loupe, seen: Callable[..., str], tiny_words: list[str], tiny_data: Path, command: str
) -> None:
    assert loupe("fit", *tiny_words, "training.epochs=1", *QUICK[1:]).code == 0
    more = [f"--data.predict_path={tiny_data / 'test' / 'images'}"] if command == "predict" else []
    text = seen(command, f"--config={RUN / 'config.yaml'}", "--ckpt_path=last", *more)
    screen = Screen(80).feed(text)
    name = {"validate": "validation"}.get(command, command)
    assert any(re.match(rf"{name}  .*\d/\d.*images/s", line) for lines in screen.drawn for line in lines)
    # the bar is gone; predict's last line tells its speed
    left = [line for line in screen.lines if "images/s" in line]
    told = [bool(re.match(r"4 predictions in .*images/s", line)) for line in left]
    assert told == ([True] if command == "predict" else [])


def test_a_score_of_an_earlier_epoch_says_its_age(seen: Callable[..., str], tiny_words: list[str]) -> None:
    words = ["training.epochs=5", *QUICK[1:], "--trainer.check_val_every_n_epoch=2"]
    screen = Screen(200).feed(seen("fit", *tiny_words, *words, columns=200))
    shown = {
        match.group(1): match.group(2)
        for lines in screen.drawn
        for line in lines
        if (match := re.search(r"epoch (\d)/5  .*images/s.*?(val/iou [\d.]+(?: \(epoch \d\))?|$)", line))
    }
    assert shown["1"] == shown["2"] == ""
    assert re.fullmatch(r"val/iou [\d.]+", shown["3"]) and re.fullmatch(r"val/iou [\d.]+", shown["5"])
    assert shown["4"].endswith("(epoch 2)")


@pytest.mark.parametrize("width", range(8, 220, 3))
@pytest.mark.parametrize("total", [7, 123456, float("inf")])
def test_no_line_is_longer_than_the_terminal(width: int, total: float) -> None:
    figures = ["loss 12.3456", "val/iou_per_class/a long name 0.1234 (epoch 3)", "lr 0.000123"]
    lines = ProgressLines("epoch 12/50", 6, total, 1234.5, 3661.0, 86400.0, figures)
    before, bar, behind, rest = lines.texts(width)
    first = "  ".join([*before, *(["━" * bar] if bar else []), *behind])
    assert len(first) <= width or behind == [behind[0]]
    assert not rest or len("  ".join(["", *rest])) <= width
