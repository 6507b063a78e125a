"""Where the `dfm` command begins and ends: what is run, and what a failure looks like."""

import os
import sys

from dfm_lightning.cli.processes import SharedFailure, first_process, shared_failure
from dfm_lightning.errors import UserError

DEFECT = 1
WRONG_INPUT = 2
INTERRUPTED = 130
# Options of `dfm` itself; all others belong to its commands.
TOP_LEVEL_OPTIONS = ("-h", "--help", "--version", "--print_completion")


def main(arguments: list[str] | None = None) -> int:
    """Run `dfm` with the given arguments, or those of the process; the exit status.

    0: done. 2: something the user gave cannot be used, said in one line on stderr. 130: interrupted.
    1: anything else, a defect. It keeps its traceback; DFM_DEBUG=1 shows it for wrong input too.
    Of several processes one says what is wrong.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # A console script's path lacks the working directory, where users keep classes of their own.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with shared_failure() as failure:
        return _status_of(arguments, failure)


def _status_of(arguments: list[str], failure: SharedFailure) -> int:
    try:
        _run(arguments)
    except (UserError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        if os.environ.get("DFM_DEBUG"):
            raise
        from dfm_lightning.cli.messages import one_line

        if failure.claim(WRONG_INPUT):
            print(f"dfm: {one_line(error)}", file=sys.stderr)
        return failure.followed_status(WRONG_INPUT)
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as stop:
        # Lightning turns an interrupt into exit status 1.
        if isinstance(stop.__context__, KeyboardInterrupt):
            return _interrupted()
        if isinstance(stop.code, str):
            raise
        return stop.code or 0
    except Exception:
        # If another process has failed before, this is what it looks like from here.
        if os.environ.get("DFM_DEBUG") or failure.claim(DEFECT, may_follow=True):
            raise
        return failure.followed_status(DEFECT)
    return 0


def _run(arguments: list[str]) -> None:
    # Imported here, where an interruption is caught: it takes seconds.
    from dfm_lightning.cli.commands import GROUPS, run_command
    from dfm_lightning.cli.configs import with_config_paths
    from dfm_lightning.cli.lightning_cli import run_lightning

    first = arguments[0] if arguments else "--help"
    if first in GROUPS:
        run_command(first, arguments[1:])
        return
    if first.startswith("-") and first.split("=")[0] not in TOP_LEVEL_OPTIONS:
        raise UserError(f"The command comes before its options, as in: dfm fit {' '.join(arguments[:2])} ...")
    run_lightning(with_config_paths(arguments or ["--help"]))


def _interrupted() -> int:
    if first_process():
        print("dfm: interrupted", file=sys.stderr)
    return INTERRUPTED
