"""How a word from outside is written down in the languages that this project writes: one quoter a language.

What comes out is read there as the very word that went in; what a language cannot hold is refused in one line. Shells
have `shlex.quote`, terminals `errors.printable`. Standard library only.

    systemd_word, systemd_path, below_home   systemd.syntax(7)
    spa_string                               PipeWire's SPA-JSON
    alsa_string                              asound.conf and .asoundrc
    markdown, markdown_code                  CommonMark with GitHub's tables
    tex                                      the mathematics of matplotlib
    github_text, github_property             GitHub's workflow commands
    xml                                      XML 1.0, before a writer escapes it
"""

from __future__ import annotations

import re
from typing import Final

from edge_runtime.errors import Failure, printable

_PLAIN: Final = re.compile(r"[A-Za-z0-9_/.,=:@+-]+")
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9_/.@+-]+")  # a colon would divide source and target
_MARKUP: Final = re.compile(r"[\\`*\[\]<>|~$&!@]|:(?=//)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=www)\.")
# What would begin a list, a rule or a heading.
_BLOCK: Final = re.compile(r"^(\d*)(?=(?<=\d)[.)](?: |$)|(?<!\d)(?:[+-](?:[ -]|$)|#+(?: |$)|=+$))")


def systemd_word(word: str) -> str:
    """One word of ExecStart=; `%` would be a specifier, `$` a variable, `;` the end of a command.

    Failure: it has signs that are not printed.

    >>> print(systemd_word("hw:CARD=A"), systemd_word("50 %"), systemd_word("$X"))
    hw:CARD=A "50 %%" "$$X"
    """
    return _systemd(word, _PLAIN, word.replace("%", "%%").replace("$", "$$"))


def systemd_path(path: str) -> str:
    """The program of ExecStart=, or a path of another setting: no variables there.

    Failure: it is not absolute, or has signs that are not printed.
    """
    if not path.startswith("/"):
        raise Failure(f"the path {path!r} is not absolute", remedy="begin it with /")
    return _systemd(path, _PLAIN_PATH, path.replace("%", "%%"))


def below_home(path: str) -> str:
    """A path from the user's home folder on, as `systemd_path`; an absolute one as it is.

    >>> print(below_home("a/b"), below_home("a b"), below_home("/a"))
    %h/a/b "%h/a b" /a
    """
    if path.startswith("/"):
        return systemd_path(path)
    quoted = systemd_path(f"/{path}")
    return f'"%h{quoted[1:]}' if quoted.startswith('"') else f"%h{quoted}"


def spa_string(word: str) -> str:
    """Failure: it has signs that are not printed."""
    return _doubly(_visible(word, "a PipeWire configuration"))


def alsa_string(word: str) -> str:
    """Failure: it has signs that are not printed."""
    return _doubly(_visible(word, "an ALSA configuration"))


def markdown(text: str) -> str:
    """Text of one line, in a paragraph or a cell of a table.

    >>> print(markdown("a|b <i> snake_case"))
    a\\|b \\<i\\> snake_case
    """
    return _BLOCK.sub(r"\1\\", _MARKUP.sub(r"\\\g<0>", _on_one_line(text)))


def markdown_code(text: str) -> str:
    """The same in a code span; not in a table, where a bar would end the cell.

    >>> print(markdown_code("a`b"))
    ``a`b``
    """
    text = _on_one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " * (text.startswith("`") or text.endswith("`"))
    return f"{fence}{space}{text}{space}{fence}" if text else ""


def tex(text: str) -> str:
    """A label of a picture: dollars are dollars."""
    return text.replace("$", r"\$")


def github_text(text: str) -> str:
    """The message of a workflow command.

    >>> print(github_text("50 %"))
    50 %25
    """
    return printable(text).replace("%", "%25")


def github_property(text: str) -> str:
    """A property of a workflow command, as its title."""
    return github_text(text).replace(":", "%3A").replace(",", "%2C")


def xml(text: str) -> str:
    """Text or an attribute without what XML cannot hold, control characters above all."""
    return printable(text)


def _systemd(word: str, plain: re.Pattern[str], escaped: str) -> str:
    _visible(word, "a systemd unit")
    return word if plain.fullmatch(word) else _doubly(escaped)


def _doubly(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _visible(word: str, language: str) -> str:
    if not word.isprintable():
        raise Failure(f"the name {word!r} has signs that {language} does not take", remedy="use another name")
    return word


def _on_one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
