"""The consoles: what comes from files is printed without what a terminal obeys."""

from __future__ import annotations

from rich.table import Table

from study.console import notes, results


def test_texts_print_no_escape_sequences(capsys):
    reason = "out\x1b[2Jof \x1b]0;title\x07memory\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x9b31m\b\rend\nit"
    table = Table("reason")
    table.add_row(reason)
    results().print(table)
    notes().print(reason)
    out, err = capsys.readouterr()
    assert err == "outof memorylink31mend\nit\n"
    assert not set("\x1b\x07\x9b\b\r") & set(out)
