"""Functions of a stack, invoked by hand."""

import json
from typing import Any

from botocore.exceptions import ClientError

from ops.cli import Failed, TryAgain
from ops.stack import Stack


def invoke(stack: Stack, name: str, payload: bytes) -> Any:
    """What a function answers. Raises Failed and TryAgain, and what AWS raises."""
    functions = stack.client("lambda")
    try:
        answer = functions.invoke(FunctionName=name, Payload=payload)
    except ClientError as error:
        match error.response["Error"].get("Code"):
            case "TooManyRequestsException":
                raise TryAgain(f"there is no free concurrency for {name}; try again") from None
            case "ResourceNotFoundException":
                raise Failed(f"there is no function {name}") from None
        raise
    content = json.loads(answer["Payload"].read() or b"null")
    if "FunctionError" not in answer:
        return content
    told = content if isinstance(content, dict) else {}
    if "timed out" in str(told.get("errorMessage")):  # the message itself may quote what nobody should read
        raise TryAgain(f"{name} was ended before it was done; what it has written stays: run this again")
    raise Failed(f"{name} failed ({told.get('errorType', 'no reason given')}); its log says where")
