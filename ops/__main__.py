"""`python -m ops`, or `pf`: a group of commands for each subject, in a module of its own."""

from ops import kept, keys, settle
from ops.cli import pf

pf.add_command(keys.key)
pf.add_command(kept.kept)
pf.add_command(settle.settle)

if __name__ == "__main__":
    pf(prog_name="pf")
