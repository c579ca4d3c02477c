"""Words come out of each language as they went in, by a reader of that language; systemd's own where it is here."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from edge_runtime.errors import Failure, printable
from edge_runtime.quoting import (
    alsa_string,
    below_home,
    markdown,
    markdown_code,
    spa_string,
    systemd_path,
    systemd_word,
    tex,
)

HARD = st.text(st.sampled_from("ab1 \"'\\%$;:#<>[]{}()|*_`~!&@.-+=/,^ü\u00a0"), max_size=12)
ANY = st.text(max_size=12)
SEEN = (HARD | ANY).filter(str.isprintable)
NOT_SEEN = ("a\nExecStartPre=/bin/x", "a\rb", "a\0b", "a\x1b[2Jb", "a\u2028b", "\ud800", "a\u202eb")
QUOTERS = (systemd_word, lambda word: systemd_path(f"/{word}"), below_home, spa_string, alsa_string)


def systemd_words(text: str, *, variables: bool) -> list[str]:
    """As extract-word.c of systemd reads a line: quotes, backslashes; then specifiers, and variables."""
    words, word, quote, signs = [], None, "", iter(text)
    for sign in signs:
        if sign == "\\":
            word = (word or "") + {"n": "\n", "t": "\t"}.get(c := next(signs), c)
        elif quote:
            quote, word = ("", word) if sign == quote else (quote, (word or "") + sign)
        elif sign in "\"'" and word is None:
            quote, word = sign, ""
        elif sign in " \t":
            words, word = words + [word] * (word is not None), None
        else:
            assert sign not in "\"';", "an unquoted one is read otherwise"
            word = (word or "") + sign
    assert not quote
    words += [word] * (word is not None)
    pattern = r"%%|\$\$|%.|\$" if variables else "%%|%."
    return [re.sub(pattern, lambda found: {"%%": "%", "$$": "$"}.get(found[0], "?"), each) for each in words]


@given(SEEN)
@example("")
@example("a;b")
@example("\\")
def test_a_unit_gives_every_word_back(word: str) -> None:
    assert systemd_words(systemd_word(word), variables=True) == [word]
    assert systemd_words(systemd_path(f"/{word}"), variables=False) == [f"/{word}"]
    if not word.startswith("/"):
        assert systemd_words(below_home(word).replace("%h", "/home/me", 1), variables=False) == [f"/home/me/{word}"]


def alsa_reads(text: str) -> str:
    """As get_delimstring of alsa-lib's conf.c does."""
    assert text[0] == text[-1] == '"'
    assert not re.search(r'(?<!\\)(\\\\)*"', text[1:-1]), "it ends early"
    return re.sub(r"\\(.)", lambda found: found[1], text[1:-1])


@given(SEEN)
def test_pipewire_and_alsa_give_every_word_back(word: str) -> None:
    assert json.loads(spa_string(word)) == word
    assert alsa_reads(alsa_string(word)) == word


@pytest.mark.parametrize("word", NOT_SEEN)
@pytest.mark.parametrize("quoter", QUOTERS, ids=["word", "path", "home", "spa", "alsa"])
def test_what_is_not_printed_gets_into_no_configuration(quoter: Callable[[str], str], word: str) -> None:
    with pytest.raises(Failure, match="has signs that"):
        quoter(word)


READER = MarkdownIt("commonmark").enable("table")


def read(source: str) -> str:
    """The text of a page that has nothing but text."""
    (paragraph, inline, _) = READER.parse(source)
    assert paragraph.type == "paragraph_open"
    assert {token.type for token in inline.children} <= {"text", "text_special"}, inline.children
    return "".join(token.content for token in inline.children)


def shown(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


@given((HARD | ANY).filter(lambda text: shown(text)))
@example("1. x")
@example("- x")
@example("__init__")
@example("---")
@example("# x")
@example("[a](b)")
@example("<script>alert(1)</script>")
@example("&lt;")
def test_a_page_shows_every_text_as_it_is(text: str) -> None:
    assert read(markdown(text)) == shown(text)
    (_, inline, _) = READER.parse(f"x {markdown_code(text)}")
    assert [token.content for token in inline.children if token.type == "code_inline"] == [shown(text)]
    table = READER.parse(f"| a | b |\n| -- | -- |\n| {markdown(text)} | c |")
    cells = ["".join(child.content for child in t.children) for t in table if t.type == "inline"]
    assert cells == ["a", "b", shown(text), "c"]


def test_names_of_everyday_stay_as_they_are() -> None:
    for name in ("model.onnx", "encoder.en_convs.2.tra.att_gru", "int8", "-3.5 dB (+0.1 … +0.2)", "VoiceBank-DEMAND"):
        assert markdown(f"x {name}") == f"x {name}"


@given(HARD)
def test_a_label_of_a_picture_is_no_formula(text: str) -> None:
    from matplotlib.text import Text

    told, is_formula = Text(text=tex(text))._preprocess_math(tex(text))
    assert (told, is_formula) == (text, False)


@given(st.text())
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    assert printable(text) == text or not text.isprintable()


WORDS = ['a b;"c"', "50%h $X ${Y}", "back\\slash", "it's", "a:b,c", "ü"]
SYSTEMD = Path("/lib/systemd/systemd")


@pytest.mark.skipif(not SYSTEMD.exists() or os.geteuid() != 0, reason="needs systemd, and root to be another user")
def test_systemd_itself_reads_the_words(tmp_path: Path) -> None:
    """Its user instance, run only to tell what it read."""
    nobody = pwd.getpwnam("nobody")
    unit = ["[Service]", f"ExecStart=/bin/echo {' '.join(map(systemd_word, WORDS))}"]
    unit += [f"BindReadOnlyPaths={systemd_path(f'/x/{word}')}" for word in WORDS]
    place = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    try:
        (place / "a.service").write_text("\n".join(unit) + "\n")
        for path in (place, place / "a.service"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        command = [str(SYSTEMD), "--test", "--user", "--unit=a.service"]
        environment = {"SYSTEMD_UNIT_PATH": f"{place}:", "XDG_RUNTIME_DIR": str(place), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            command, env=environment, user=nobody.pw_uid, capture_output=True, text=True, timeout=60, cwd="/"
        )
    finally:
        shutil.rmtree(place)
    told = done.stdout + done.stderr
    if "Unit a.service" not in told:
        pytest.skip("systemd tells nothing here")
    for word in WORDS:
        assert f"BindReadOnlyPaths: /x/{word}:/x/{word}:rbind" in told
    (line,) = [line for line in told.splitlines() if "Command Line: /bin/echo" in line]
    assert len(systemd_words(line.partition(": ")[2].replace("%", "%%"), variables=False)) == 1 + len(WORDS)
