"""What commands make of errors: a message for the user's own, a traceback for all others."""

from __future__ import annotations

import pytest

from beitmed.commands import cli


@pytest.mark.parametrize(
    "error", [OSError("libgomp.so.1: cannot open shared object file"),
              FileNotFoundError(2, "No such file or directory", "conf/lost.yaml")],
)  # fmt: skip
def test_an_error_of_the_system_that_is_not_the_users_keeps_its_traceback(error):
    def command() -> int:
        raise error

    with pytest.raises(OSError) as e:
        cli.guarded(command)
    assert e.value is error
