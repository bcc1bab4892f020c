"""AWS by moto, with the resources of the template. The only module that knows moto."""

import base64
import json
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import boto3
from moto.dynamodb.models import dynamodb_backends
from moto.events.models import EventPattern
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.ses.models import ses_backends
from moto.sqs.models import sqs_backends

from sandbox import challenge, pocketsflow
from sandbox.template import PSEUDO_PARAMETERS, Template

ACCOUNT = PSEUDO_PARAMETERS["AWS::AccountId"]
REGION = PSEUDO_PARAMETERS["AWS::Region"]
ACCESS_KEY = "sandbox-itself"
"""Of the sandbox's own requests. The functions have another: faults are theirs alone."""
SECRETS = {
    "ApiKey": pocketsflow.API_KEY,
    "WebhookSecrets": pocketsflow.WEBHOOK_SECRET,
    "ChallengeSecret": challenge.SECRET,
}
AS_IT_IS = {"InputPathsMap": {"id": "$.id"}, "InputTemplate": "<aws.events.event.json>"}
"""An event on its way to a target, as it is. Without a template moto makes it anew, without its account and with what
stands in <> replaced."""
_SENDERS = ("NoticesFrom", "MemberMailFrom")
"""Parameters."""
_TABLE_PROPERTIES = ("AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes", "KeySchema")
_NEW_IMAGES = {"StreamViewType": "NEW_IMAGE"}  # for a table without a stream: nobody reads it

_one_at_a_time = threading.Lock()  # moto's conditional writes are not atomic under threads; its state is the process's

Record = dict[str, Any]


def application() -> WSGIApplication:
    """moto's server, one request at a time."""
    moto: WSGIApplication = DomainDispatcherApplication(create_backend_app)

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with _one_at_a_time:
            return list(moto(environ, start_response))

    return serve


def client(service: str, endpoint: str | None) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]  # any of them
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=ACCESS_KEY,
    )


def matches(pattern: str, event: Any) -> bool:
    """Whether an event fits a pattern (JSON) of EventBridge, whose language Lambda's filters have too."""
    return bool(EventPattern.load(pattern).matches_event(event))


def read_stream(stream_arn: str, position: int) -> tuple[list[Record], int]:
    """The records of a table's stream from a position on (0 is its beginning), as Lambda hands them to a function, and
    the position behind them.

    Read from moto's memory, in the process that serves it: GetRecords would cost a request a look, and moto keeps every
    iterator it ever gave, each of which goes on reading the table as it was before a transaction failed.
    """
    with _one_at_a_time:
        stream = dynamodb_backends[ACCOUNT][REGION].tables[stream_arn.split("/")[1]].stream_shard
        assert stream is not None  # noqa: S101
        written = [each.record for each in stream.items[position:]]
    behind = position + len(written)
    return [
        _as_lambda_gives_it(record, stream_arn)
        for record, following in zip(written, [*written[1:], None], strict=False)
        if not _is_motos_own(record, following)
    ], behind


def _is_motos_own(record: Record, following: Record | None) -> bool:
    """AWS records no write that changes nothing, and an update that creates an item once, not also as an item of keys
    alone."""
    change = record["dynamodb"]
    created_again = (
        following is not None
        and record["eventName"] == following["eventName"] == "INSERT"
        and change["Keys"] == following["dynamodb"]["Keys"]
    )
    changes_nothing: bool = change.get("OldImage") == change.get("NewImage")
    return created_again or changes_nothing


def _as_lambda_gives_it(record: Record, stream_arn: str) -> Record:
    """docs.aws.amazon.com/lambda/latest/dg/with-ddb.html: JSON, with bytes in base64 and whole seconds."""
    change, written_at = record["dynamodb"], record["dynamodb"]["ApproximateCreationDateTime"]
    given: Record = {
        **record,
        "eventVersion": "1.1",
        "awsRegion": REGION,
        "dynamodb": {**change, "ApproximateCreationDateTime": int(written_at.replace(tzinfo=UTC).timestamp())},
        "eventSourceARN": stream_arn,
    }
    in_json: Record = json.loads(json.dumps(given, default=lambda data: base64.b64encode(data).decode()))
    return in_json


def hidden_seconds(queue_url: str, message_id: str) -> float:
    """Until a message that was received comes again: the queue's own time, or what the function has said."""
    with _one_at_a_time:
        messages = sqs_backends[ACCOUNT][REGION].queues[queue_url.rpartition("/")[2]]._messages
        visible_at = next((message.visible_at for message in messages if message.id == message_id), 0)
    return max(0, visible_at / 1000 - time.time())


def has_messages(queue_url: str) -> bool:
    """Whether a queue has messages to receive. A look into moto's memory: asking by request would keep it busy."""
    with _one_at_a_time:
        return bool(sqs_backends[ACCOUNT][REGION].queues[queue_url.rpartition("/")[2]].messages)


def mails() -> list[dict[str, str]]:
    """All that SES was given to send, oldest first."""
    with _one_at_a_time:
        sent = list(ses_backends[ACCOUNT][REGION].sent_messages)
    return [
        {
            "from": mail.source,
            "to": ",".join(mail.destinations["ToAddresses"]),
            "subject": mail.subject,
            "text": mail.body,
        }
        for mail in sent
    ]


def make_key(spec: str, usage: str, endpoint: str | None = None) -> str:
    """The ARN of a key in KMS."""
    arn: str = client("kms", endpoint).create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"]
    return arn


def create_resources(template: Template, endpoint: str | None = None) -> None:
    """Creates the template's resources that functions speak to and tells the template their names.

    Not through moto's CloudFormation, which skips secrets and drops a table's TTL and recovery.
    """
    create_tables(template, endpoint)
    secrets = client("secretsmanager", endpoint)
    for logical_id, properties in template.resources("AWS::SecretsManager::Secret"):
        created = secrets.create_secret(Name=f"{template.stack}-{logical_id}", Description=properties["Description"])
        template.references[logical_id] = {"Ref": created["ARN"], "Arn": created["ARN"]}
    _create_queues(template, endpoint)
    _create_buses(template, endpoint)
    _create_buckets(template, endpoint)
    _create_topics(template, endpoint)
    _verify_senders(template, endpoint)
    _create_rules(template, endpoint)
    for logical_id, key in template.resources("AWS::KMS::Key"):
        arn = make_key(key["KeySpec"], key["KeyUsage"], endpoint)
        template.references[logical_id] = {"Ref": arn.rpartition("/")[2], "Arn": arn}
    for logical_id, _ in template.resources("AWS::Serverless::Function"):
        template.references[logical_id] = {"Ref": f"{template.prefix}{logical_id}"}
    for logical_id, nested in template.nested():
        create_resources(nested, endpoint)
        template.references[logical_id] = {f"Outputs.{name}": value for name, value in nested.outputs().items()}


def _create_queues(template: Template, endpoint: str | None) -> None:
    sqs = client("sqs", endpoint)
    for logical_id, _ in template.resources("AWS::SQS::Queue"):
        name = f"{template.stack}-{logical_id}"
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        template.references[logical_id] = {"Ref": url, "Arn": arn, "QueueName": name}
    for logical_id, properties in template.resources("AWS::SQS::Queue"):  # again: now each can name another
        sqs.set_queue_attributes(
            QueueUrl=template.references[logical_id]["Ref"],
            Attributes={
                name: value if isinstance(value, str) else json.dumps(value) for name, value in properties.items()
            },
        )


def _create_buses(template: Template, endpoint: str | None) -> None:
    events = client("events", endpoint)
    for logical_id, properties in template.resources("AWS::Events::EventBus"):
        arn = events.create_event_bus(Name=properties["Name"])["EventBusArn"]
        template.references[logical_id] = {"Ref": properties["Name"], "Arn": arn, "Name": properties["Name"]}
    for logical_id, properties in template.resources("AWS::Events::Archive"):
        events.create_archive(
            ArchiveName=f"{template.stack}-{logical_id}",
            EventSourceArn=properties["SourceArn"],
            RetentionDays=properties["RetentionDays"],
        )


def _create_rules(template: Template, endpoint: str | None) -> None:
    events = client("events", endpoint)
    for logical_id, rule in template.resources("AWS::Events::Rule"):
        name, bus = f"{template.stack}-{logical_id}", rule["EventBusName"]
        events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(rule["EventPattern"]))
        targets = [{"Id": each["Id"], "Arn": each["Arn"], "InputTransformer": AS_IT_IS} for each in rule["Targets"]]
        events.put_targets(Rule=name, EventBusName=bus, Targets=targets)


def _create_buckets(template: Template, endpoint: str | None) -> None:
    s3 = client("s3", endpoint)
    for logical_id, _ in template.resources("AWS::S3::Bucket"):
        name = f"{template.stack}-{logical_id}".lower()
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        template.references[logical_id] = {"Ref": name, "Arn": f"arn:aws:s3:::{name}"}


def _create_topics(template: Template, endpoint: str | None) -> None:
    sns = client("sns", endpoint)
    for logical_id, _ in template.resources("AWS::SNS::Topic"):
        template.references[logical_id] = {"Ref": sns.create_topic(Name=f"{template.stack}-{logical_id}")["TopicArn"]}


def _verify_senders(template: Template, endpoint: str | None) -> None:
    """As a person does in the console of SES, once for each address that mails are sent from."""
    parameters = template.parameters()
    for address in filter(None, (parameters.get(name) for name in _SENDERS)):
        client("sesv2", endpoint).create_email_identity(EmailIdentity=address)


def create_alarms(template: Template, endpoint: str | None = None) -> None:
    """Those of the nested stacks, which name the functions. Nobody evaluates them: moto's alarms have the state that
    somebody sets."""
    cloudwatch = client("cloudwatch", endpoint)
    for _, nested in template.nested():
        for _, alarm in nested.resources("AWS::CloudWatch::Alarm"):
            cloudwatch.put_metric_alarm(**{**alarm, "Threshold": float(alarm["Threshold"])})


def create_tables(template: Template, endpoint: str | None = None) -> None:
    dynamodb = client("dynamodb", endpoint)
    for logical_id, properties in template.resources("AWS::DynamoDB::Table"):
        table = f"{template.stack}-{logical_id}"
        created = dynamodb.create_table(
            TableName=table,
            StreamSpecification={"StreamEnabled": True, **properties.get("StreamSpecification", _NEW_IMAGES)},
            **{name: properties[name] for name in _TABLE_PROPERTIES if name in properties},
        )["TableDescription"]
        ttl = properties["TimeToLiveSpecification"]
        dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=ttl)
        template.references[logical_id] = {
            "Ref": table,
            "Arn": created["TableArn"],
            "StreamArn": created["LatestStreamArn"],
        }


def fill_secrets(
    template: Template, endpoint: str | None = None, of_connectors: Mapping[str, str] | None = None
) -> None:
    """What a person does once after `sam deploy`. `of_connectors` are those of nested stacks, by logical id."""
    secrets = client("secretsmanager", endpoint)
    for logical_id, _ in template.resources("AWS::SecretsManager::Secret"):
        secrets.put_secret_value(SecretId=template.references[logical_id]["Ref"], SecretString=SECRETS[logical_id])
    for logical_id, value in (of_connectors or {}).items():
        made = template.stacks[logical_id].references["ConnectorSecret"]
        secrets.put_secret_value(SecretId=made["Ref"], SecretString=value)
