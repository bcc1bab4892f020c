"""`python -m ops`, or `pf`: a group of commands for each subject, in a module of its own."""

from ops import (
    audit,
    catalogue,
    completion,
    connectors,
    doctor,
    erase,
    export,
    figures,
    init,
    journal,
    kept,
    keys,
    order,
    orders,
    reconcile,
    redrive,
    refund,
    replay,
    republish,
    resolve,
    rotate,
    settle,
    tail,
    trigger,
)
from ops.cli import pf

pf.add_command(audit.listed)
pf.add_command(catalogue.catalogue)
pf.add_command(completion.completion)
pf.add_command(connectors.connector)
pf.add_command(doctor.doctor)
pf.add_command(erase.erase)
pf.add_command(export.export)
pf.add_command(figures.stats)
pf.add_command(init.init)
pf.add_command(journal.events)
pf.add_command(kept.kept)
pf.add_command(keys.key)
pf.add_command(order.order)
pf.add_command(orders.orders)
pf.add_command(reconcile.reconcile)
pf.add_command(redrive.redrive)
pf.add_command(refund.refund)
pf.add_command(replay.replay)
pf.add_command(republish.republish)
pf.add_command(resolve.resolve)
pf.add_command(rotate.rotate)
pf.add_command(settle.settle)
pf.add_command(tail.listen)
pf.add_command(tail.tail)
pf.add_command(trigger.trigger)

if __name__ == "__main__":
    pf(prog_name="pf")
