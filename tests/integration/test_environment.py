"""A function whose environment is incomplete refuses to start, rather than run with a guess."""

import pytest

from sandbox.template import Function
from sandbox.worker import Worker
from tests.conftest import template

FUNCTIONS = template(Mode="live").functions()


def test_every_function_starts_with_the_environment_of_the_template() -> None:
    """What the template gives is enough."""
    for function in FUNCTIONS:
        worker = Worker(function, {})
        worker.wait_until_ready()
        worker.close()


@pytest.mark.parametrize(
    ("function", "missing"),
    [
        pytest.param(function, name, id=f"{function.logical_id}-{name}")
        for function in FUNCTIONS
        for name in function.environment
    ],
)
def test_a_missing_variable_stops_the_function(function: Function, missing: str) -> None:
    """Without any one of its variables the function says which, and serves nothing."""
    rest = {name: value for name, value in function.environment.items() if name != missing}
    worker = Worker(Function(function.logical_id, function.handler, rest, function.timeout, []), {})
    with pytest.raises(RuntimeError, match=f"KeyError: '{missing}'"):
        worker.wait_until_ready()
    worker.close()
