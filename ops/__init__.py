"""`pf`: what a person does with a stack, from the command line. Nothing here runs on AWS."""
