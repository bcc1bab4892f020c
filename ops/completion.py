"""`pf completion`: what makes a shell complete `pf` and its options."""

import click
from click.shell_completion import get_completion_class

from ops.cli import pf

_VARIABLE = "_PF_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Prints the script that makes SHELL complete pf.

    For bash, in ~/.bashrc: eval "$(pf completion bash)".
    """
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101
    click.echo(found(pf, {}, "pf", _VARIABLE).source())
