"""`python -m ops`, or `pf`: a group of commands for each subject, in a module of its own."""

from ops import catalogue, kept, keys, reconcile, redrive, refund, replay, republish, resolve, settle
from ops.cli import pf

pf.add_command(catalogue.catalogue)
pf.add_command(kept.kept)
pf.add_command(keys.key)
pf.add_command(reconcile.reconcile)
pf.add_command(redrive.redrive)
pf.add_command(refund.refund)
pf.add_command(replay.replay)
pf.add_command(republish.republish)
pf.add_command(resolve.resolve)
pf.add_command(settle.settle)

if __name__ == "__main__":
    pf(prog_name="pf")
