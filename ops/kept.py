"""What outlives the stack: read before it is deleted, since afterwards nobody says it."""

from collections.abc import Callable

import click

from ops import cli, connectors
from ops.stack import Stack

_KEPT = {
    "LedgerTable": "the ledger: every order, payment and event",
    "ParkingQueue": "webhooks that wait to be written, for 14 days",
    "ParkedTooLongArn": "webhooks that could not be written, for 14 days",
    "UnpublishedBucket": "changes that could not be published, for 90 days",
}
"""Outputs that name what template.yaml retains."""


@click.command("kept")
@cli.json_option
@click.pass_obj
def kept(stack: Callable[[], Stack], as_json: bool) -> None:
    """What stays in the account when the stack is deleted, and where."""
    found = stack()
    names = {output: found.output(output) for output in _KEPT}
    for each in (
        connectors.find(found, name) for name, output in connectors.OUTPUTS.items() if output in found.outputs
    ):
        names |= {
            f"{each.name} deliveries": each.table,
            f"{each.name} queue": each.queue.url,
            f"{each.name} dead letters": each.dead.url,
        }
    if as_json:
        cli.print_json({"stack": found.name, "kept": names})
        return
    click.echo(f"Of the stack {found.name} this is kept in {found.session.region_name}, until somebody deletes it:")
    for output, name in names.items():
        click.echo(f"  {name}  {_KEPT.get(output, output)}")
    click.echo(
        "Its secrets are gone with it, and nobody can restore them: CloudFormation leaves them no days to be had back."
    )
