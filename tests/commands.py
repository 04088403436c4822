"""Commands of ``centermask-solo`` that end early, in this process."""

import pytest

from centermask_solo.cli import main


def fails(capsys, *argv):
    """Run a command that exits; return its exit code and all that it wrote."""
    with pytest.raises(SystemExit) as end:
        main(argv)
    captured = capsys.readouterr()
    return end.value.code, captured.out + captured.err


def refuses(capsys, argv):
    """Run a command whose input is wrong; return all that it wrote."""
    code, text = fails(capsys, *argv)
    assert code == 2
    return text
