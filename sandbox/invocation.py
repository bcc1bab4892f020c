"""What the sources of events have in common: something to invoke, and what its answer means to Lambda."""

from typing import Any, Protocol

HURRY = 60
"""So many times sooner than on AWS does an invocation that failed come again: a minute there is a second here."""


class Invocable(Protocol):
    """A function that runs: sandbox.worker.Worker."""

    def invoke(self, event: Any) -> Any:
        """What the handler returned, or {"errorMessage", …} for one that failed."""


def failed(answer: Any) -> bool:
    """Whether an invocation ended in an error."""
    return isinstance(answer, dict) and "errorMessage" in answer


def reported_failures(answer: Any) -> list[Any]:
    """The identifiers that an answer names under ReportBatchItemFailures. An answer that is no report names none, one
    that is not as it should be names None: Lambda takes the whole batch for failed then.

    docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
    """
    if not isinstance(answer, dict) or not (named := answer.get("batchItemFailures")):
        return []
    if not isinstance(named, list):
        return [None]
    return [each.get("itemIdentifier") if isinstance(each, dict) else None for each in named]
