"""`pf`: what a person does with a stack, from the command line. Nothing here runs on AWS."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "functions"))  # its modules are the commands' too: Stack.enter()
