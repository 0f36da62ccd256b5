"""What ravectl prints of texts that come from elsewhere: nothing in them controls the terminal."""

from __future__ import annotations

import contextlib
import io
import json

from ravesvc.ctl.operations import absence
from ravesvc.ctl.ui import columns, output
from ravesvc.errors import Code, RaveError

_CELLS = 60


def check(data: bytes) -> None:
    """Every line is printable, a table fits where it has to, and a document is the same when read again."""
    text = data.decode(errors="surrogateescape")
    shown, document = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        output.print_line(text)
        output.print_problem(text)
        output.redraw(text)
        output.print_table((text[:40], "B"), [("a", text)])
        absence.print_error(RaveError(Code.INTERNAL, text, hint=text))
        for row in columns.fit(("A", "B"), [(text, text)], _CELLS, (0, 1)):
            output.print_row(row, {})
    for line in shown.getvalue().removeprefix("\r").replace("\n\r", "\n").split("\n"):
        assert line.replace("\r", "", 1).isprintable()
    with contextlib.redirect_stdout(document):
        output.print_json({"text": text})
    assert all(line.isprintable() and line.isascii() for line in document.getvalue().split("\n"))
    assert json.loads(document.getvalue())["text"] == text
