"""Options that would change nothing are refused: a person who gave one expects something of it."""

from __future__ import annotations

import typer

from repro.errors import UserError

ADD_OR_LEAVE_OUT = "Add that, or leave the option out."


def refuse_idle(context: typer.Context, *names: str, because: str, hint: str = "Leave it out.") -> None:
    """Raise UserError where the command line gave parameters of these names; ``because`` goes on after their options.

    What a default or a variable of the environment said is no person's word for this command.
    """
    given = [
        parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or names[0]
        for parameter in context.command.params
        if parameter.name in names and _is_typed(context, parameter.name)
    ]
    if given:
        raise UserError(f"{' and '.join(given)} {because}", hint=hint)


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
