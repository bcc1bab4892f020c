"""AWS by moto, with the resources of the template."""

import threading
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from sandbox import pocketsflow
from sandbox.template import PSEUDO_PARAMETERS, Template

REGION = PSEUDO_PARAMETERS["AWS::Region"]
SECRETS = {"ApiKey": pocketsflow.API_KEY, "WebhookSecrets": pocketsflow.WEBHOOK_SECRET}
_TABLE_PROPERTIES = ("AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes", "KeySchema")


def application() -> WSGIApplication:
    """moto's server, one request at a time: its conditional writes are not atomic under threads."""
    moto: WSGIApplication = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with one_at_a_time:
            return list(moto(environ, start_response))

    return serve


def client(service: Any, endpoint: str | None) -> Any:
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="sandbox",
        aws_secret_access_key="sandbox",
    )


def create_resources(template: Template, endpoint: str | None = None) -> None:
    """Creates the template's tables and secrets and tells the template their names.

    Not through moto's CloudFormation, which skips secrets and drops a table's TTL and recovery.
    """
    create_tables(template, endpoint)
    secrets = client("secretsmanager", endpoint)
    for logical_id, properties in template.resources("AWS::SecretsManager::Secret"):
        created = secrets.create_secret(Name=f"sandbox-{logical_id}", Description=properties["Description"])
        template.references[logical_id] = {"Ref": created["ARN"], "Arn": created["ARN"]}


def create_tables(template: Template, endpoint: str | None = None) -> None:
    dynamodb = client("dynamodb", endpoint)
    for logical_id, properties in template.resources("AWS::DynamoDB::Table"):
        table = f"sandbox-{logical_id}"
        created = dynamodb.create_table(
            TableName=table,
            StreamSpecification={"StreamEnabled": True, **properties["StreamSpecification"]},
            **{name: properties[name] for name in _TABLE_PROPERTIES},
        )["TableDescription"]
        ttl = properties["TimeToLiveSpecification"]
        dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=ttl)
        template.references[logical_id] = {"Ref": table, "Arn": created["TableArn"]}


def fill_secrets(template: Template, endpoint: str | None = None) -> None:
    """What a person does once after `sam deploy`."""
    secrets = client("secretsmanager", endpoint)
    for logical_id, value in SECRETS.items():
        secrets.put_secret_value(SecretId=template.references[logical_id]["Ref"], SecretString=value)
