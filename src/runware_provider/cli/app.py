"""The command line: all commands under one name, and what becomes of wrong usage and of failures."""

import typer

from runware_provider.cli import INTERRUPTED, WRONG, looking, making, operating
from runware_provider.cli.console import discard, err, out, say
from runware_provider.cli.help import Group

NAME = "runware-provider"

app = typer.Typer(
    name=NAME,
    cls=Group,
    help="Durable, queue-based image generation on Runware's API. You are charged once, and every image that you paid "
    "for is kept.",
    epilog="Begin with `runware-provider demo`, which needs no key. Settings come from the environment "
    "(RUNWARE_API_KEY, RUNWARE_PROVIDER_...) or from runware-provider.toml.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (making.app, looking.app, operating.app):
    app.add_typer(commands)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        code = app(arguments, standalone_mode=False, prog_name=NAME)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except typer.TyperException as error:
        return _misused(error)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # whoever read the help has left
            for stream in (out, err):
                discard(stream.file)
            return 0
        raise
    except Exception as error:
        from runware_provider.cli.failures import told

        exit_code = told(error)
        if exit_code is None:
            raise
        return exit_code
    return code if isinstance(code, int) else 0


def _misused(error: typer.TyperException) -> int:
    message = error.format_message()
    if message:  # else no command was given, and the help has been shown
        context = getattr(error, "ctx", None)
        say(err, ("error: ", "red"), message)
        say(err, f"see: {context.command_path if context else NAME} --help")
    return WRONG
