"""The entry point of the `dfm` command: it runs a command and turns failures into messages and exit statuses."""

import os
import sys

from dfm_lightning.cli.own_packages import import_own_packages
from dfm_lightning.cli.process_group import leave_process_group
from dfm_lightning.cli.processes import SharedFailure, first_process, shared_failure
from dfm_lightning.cli.termination import Termination, terminated_in_order
from dfm_lightning.errors import UserError

# As soon as this module is imported: spawned worker processes import it before they are sent anything.
import_own_packages()

DEFECT = 1
WRONG_INPUT = 2
INTERRUPTED = 130
OUTPUT_CLOSED = 141
# Options of `dfm` itself; all others belong to its commands.
TOP_LEVEL_OPTIONS = ("-h", "--help", "--version", "--print_completion")


def main(arguments: list[str] | None = None) -> int:
    """Run `dfm` with the given arguments, or those of the process; return the exit status.

    0: success. 2: user input cannot be used, explained in one line on stderr. 1: anything else, a defect. 130:
    interrupted. 141: the reader of the output has gone. 143: asked to end (SIGTERM).

    A defect keeps its traceback; DFM_DEBUG=1 shows it for wrong input too. Of several processes, only one reports
    an error.
    """
    status = DEFECT
    try:
        status = _main(sys.argv[1:] if arguments is None else arguments)
    finally:
        leave_process_group(failed=status != 0)
    return status


def _main(arguments: list[str]) -> int:
    with shared_failure() as failure, terminated_in_order(failure.give_up) as termination:
        try:
            _run(arguments)
            sys.stdout.flush()
        except BaseException as error:
            status = _failed(error, failure) if termination.status is None else _terminated(failure, termination)
            if status is None:
                raise
            return status
    return 0


def _failed(error: BaseException, failure: SharedFailure) -> int | None:
    """Report an error; return the exit status, or None if the traceback is to be shown."""
    if isinstance(error, KeyboardInterrupt):
        return _interrupted()
    if isinstance(error, SystemExit):
        # Lightning turns an interrupt into exit status 1.
        if isinstance(error.__context__, KeyboardInterrupt):
            return _interrupted()
        return None if isinstance(error.code, str) else error.code or 0
    if isinstance(error, BrokenPipeError):
        # The reader of the output has seen enough (`dfm fit --help | head`).
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (what is left to be flushed at exit goes there)
        return OUTPUT_CLOSED
    if os.environ.get("DFM_DEBUG"):
        return None
    from dfm_lightning.cli.messages import is_wrong_input, one_line

    if is_wrong_input(error):
        if failure.claim(WRONG_INPUT):
            print(f"dfm: {one_line(error)}", file=sys.stderr)
        return failure.followed_status(WRONG_INPUT)
    # If another process has failed before, its failure looks like this from here.
    return None if failure.claim(DEFECT, may_follow=True) else failure.followed_status(DEFECT)


def _terminated(failure: SharedFailure, termination: Termination) -> int:
    status = termination.status or 0
    if failure.claim(status):
        print("dfm: terminated", file=sys.stderr)
    termination.wait_for_others()
    return status if failure.shows_status else 0


def _run(arguments: list[str]) -> None:
    # A console script's path lacks the working directory, where users keep their own classes. It comes last.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    # Imported here, where an interruption is caught: the import takes seconds.
    from dfm_lightning.cli.commands import GROUPS, REPORT, VIEW, run_command, run_report, run_view
    from dfm_lightning.cli.configs import with_config_paths
    from dfm_lightning.cli.lightning_cli import run_lightning
    from dfm_lightning.cli.messages import is_wrong_input
    from dfm_lightning.cli.threads import errors_of_threads

    first = arguments[0] if arguments else "--help"
    if first in GROUPS:
        run_command(first, arguments[1:])
        return
    if first == VIEW:
        run_view(arguments[1:])
        return
    if first == REPORT:
        run_report(arguments[1:])
        return
    if first.startswith("-") and first.split("=")[0] not in TOP_LEVEL_OPTIONS:
        raise UserError(f"The command comes before its options, as in: dfm fit {' '.join(arguments[:2])} ...")
    with errors_of_threads(is_wrong_input) as errors:
        run_lightning(with_config_paths(arguments or ["--help"]))
    if errors:
        raise errors[0]


def _interrupted() -> int:
    if first_process():
        print("dfm: interrupted", file=sys.stderr)
    return INTERRUPTED
