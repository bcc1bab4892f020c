"""Which deployment this is: set by the template, the same for every function."""

import os

STAGE = os.environ["STAGE"]
"""Lower-case name of the stack's stage; part of every order id."""

MODE = os.environ["MODE"]
"""`test` or `live`: which of Pocketsflow's two worlds this stack speaks to."""

SANDBOX = STAGE == "sandbox"
"""On a laptop. The template refuses this stage name, so nothing deployed is ever a sandbox."""
