"""A stand-in for the AWS command line, as far as the documents use it: `python aws_command.py SERVICE OPERATION …`.

Any operation of a service with the options that AWS's model gives it, `--query` and `--output text`; and the few
commands that are more than one: `s3 ls|mv|cp`, and `lambda invoke`, which the sandbox answers at its own address.
"""

import json
import os
import sys
from typing import Any
from urllib.parse import urlsplit

import boto3
import jmespath
import requests


def client(service: str) -> Any:
    return boto3.client(service, endpoint_url=os.environ["AWS_ENDPOINT_URL"])


def options(words: list[str]) -> dict[str, str]:
    return {words[number][2:]: words[number + 1] for number in range(0, len(words), 2)}


def call(service: str, operation: str, given: dict[str, str]) -> str:
    query, _ = given.pop("query", None), given.pop("output", None)
    method = operation.replace("-", "_")
    shape = (
        client(service)
        .meta.service_model.operation_model(client(service).meta.method_to_api_mapping[method])
        .input_shape
    )
    names = {name.replace("-", "").lower(): name for name in shape.members}
    arguments: dict[str, Any] = {}
    for option, text in given.items():
        name = names[option.replace("-", "")]
        match shape.members[name].type_name:
            case "list" if not text.startswith("["):
                arguments[name] = text.split(",")
            case "list" | "map" | "structure":
                arguments[name] = json.loads(text)
            case _:
                arguments[name] = text
    answer = getattr(client(service), method)(**arguments)
    answer.pop("ResponseMetadata")
    found = jmespath.search(query, answer) if query else answer
    return found if isinstance(found, str) else json.dumps(found, default=str)


def s3(command: str, words: list[str]) -> str:
    places = [urlsplit(word) for word in words if word.startswith("s3://")]
    bucket, key = places[0].netloc, places[0].path.lstrip("/")
    match command:
        case "ls":
            held = client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
            return "\n".join(f"2026-11-25 00:00:00 {each['Size']} {each['Key']}" for each in held)
        case "mv":
            to = places[1].path.lstrip("/")
            client("s3").copy_object(Bucket=bucket, Key=to, CopySource={"Bucket": bucket, "Key": key})
            client("s3").delete_object(Bucket=bucket, Key=key)
            return f"move: {key} to {to}"
    return client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()


def main(service: str, operation: str, *words: str) -> str:
    if service == "s3":
        return s3(operation, list(words))
    if (service, operation) == ("lambda", "invoke"):
        function = words[words.index("--function-name") + 1]
        address = f"{os.environ['SANDBOX_API']}/_sandbox/invoke/{function}"
        return requests.post(address, data=sys.stdin.buffer.read(), timeout=30).text
    return call(service, operation, options(list(words)))


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
