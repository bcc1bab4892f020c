"""What the sandbox reads in a template: the sources of events of a function, as SAM means them."""

from typing import Any

import pytest

from sandbox.template import Function, Queue, Rule, Schedule, Stream, Template

HEAD = """
Parameters:
  Stage: {Type: String, Default: dev}
Resources:
  Work:
    Type: AWS::Serverless::Function
    Properties:
      Handler: work.handler
      Timeout: 3
      EventInvokeConfig: {MaximumRetryAttempts: 1}
      Environment: {Variables: {VALUE: %s}}
      Events: %s
"""


def function(value: str = '""', events: str = "{}") -> Function:
    """Of a template in which Box is a table and Mail a queue, both there already."""
    read = Template(HEAD % (value, events), {})
    read.references = {
        "Box": {"Ref": "box", "Arn": "arn:aws:s3:::box", "StreamArn": "arn:box/stream/1"},
        "Mail": {"Ref": "https://mail", "Arn": "arn:aws:sqs:eu-west-1:1:mail", "QueueName": "mail"},
    }
    [found] = read.functions()
    return found


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('!Select [2, !Split ["/", !Ref "AWS::StackId"]]', "00000000-0000-4000-8000-000000000000"),
        ('!Select ["1", [a, b]]', "b"),
        ('!Join ["-", !Split ["/", a/b]]', "a-b"),
        ("!Ref Mail", "https://mail"),
        ("!GetAtt Mail.QueueName", "mail"),
        ('!Sub "${Box.Arn}/*"', "arn:aws:s3:::box/*"),
        ('!Sub "${Box}-${Stage}-${AWS::Region}"', "box-dev-eu-west-1"),
        ("!Ref Nothing", "Nothing.Ref"),
    ],
)
def test_intrinsic_functions(written: str, value: str) -> None:
    """What CloudFormation makes of it; a resource that is not there yet stands for itself."""
    assert function(value=written).environment == {"VALUE": value}


def test_a_stream() -> None:
    """A table's stream with all that Lambda lets one say about it."""
    events = """
        Changes:
          Type: DynamoDB
          Properties:
            Stream: !GetAtt Box.StreamArn
            StartingPosition: TRIM_HORIZON
            BatchSize: 5
            BisectBatchOnFunctionError: true
            FunctionResponseTypes: [ReportBatchItemFailures]
            MaximumRetryAttempts: 2
            MaximumRecordAgeInSeconds: 60
            DestinationConfig: {OnFailure: {Type: S3, Destination: !GetAtt Box.Arn}}
            FilterCriteria: {Filters: [{Pattern: '{"a": ["b"]}'}]}
    """
    assert function(events=events).streams == (
        Stream("Changes", "arn:box/stream/1", ('{"a": ["b"]}',), False, 5, True, 2, 60, True, "box"),
    )


def test_a_stream_by_default() -> None:
    """What is not said is what AWS documents: every record, in hundreds, for ever, as a whole."""
    events = "{Changes: {Type: DynamoDB, Properties: {Stream: !GetAtt Box.StreamArn, StartingPosition: LATEST}}}"
    assert function(events=events).streams == (
        Stream("Changes", "arn:box/stream/1", (), True, 100, False, None, None, False, None),
    )


def test_a_queue() -> None:
    """Of ten messages at once, unless the template says otherwise."""
    events = """
        All: {Type: SQS, Properties: {Queue: !GetAtt Mail.Arn}}
        Some: {Type: SQS, Properties: {Queue: x, BatchSize: 5, FunctionResponseTypes: [ReportBatchItemFailures]}}
    """
    assert function(events=events).queues == (
        Queue("arn:aws:sqs:eu-west-1:1:mail", 10, False),
        Queue("x", 5, True),
    )


@pytest.mark.parametrize(
    ("rate", "seconds"), [("1 minute", 60), ("5 minutes", 300), ("1 hour", 3600), ("2 days", 2 * 86400)]
)
def test_a_schedule(rate: str, seconds: int) -> None:
    """A rate in seconds, and the input as the function gets it; a merge of YAML is followed."""
    events = f"""
        First: {{Type: ScheduleV2, Properties: &same {{ScheduleExpression: rate(9 days), Input: '{{"n": 1}}'}}}}
        Second: {{Type: ScheduleV2, Properties: {{<<: *same, ScheduleExpression: rate({rate})}}}}
    """
    assert function(events=events).schedules == (Schedule(9 * 86400, {"n": 1}), Schedule(seconds, {"n": 1}))


def test_a_rule() -> None:
    """A bus by its name, a pattern as JSON, and how often what failed is tried again."""
    events = '{Paid: {Type: EventBridgeRule, Properties: {EventBusName: !Ref Box, Pattern: {"source": ["x"]}}}}'
    found = function(events=events)
    assert found.rules == (Rule("Paid", "box", '{"source": ["x"]}'),)
    assert found.retries == 1


@pytest.mark.parametrize(
    "event",
    [
        {"Type": "SNS", "Properties": {}},
        {"Type": "ScheduleV2", "Properties": {"ScheduleExpression": "cron(0 * * * ? *)", "Input": "{}"}},
        {
            "Type": "DynamoDB",
            "Properties": {"Stream": "x", "DestinationConfig": {"OnFailure": {"Type": "SQS", "Destination": "x"}}},
        },
    ],
    ids=["source", "schedule", "destination"],
)
def test_what_the_sandbox_cannot_do(event: dict[str, Any]) -> None:
    """It says so, instead of leaving it out in silence."""
    with pytest.raises(NotImplementedError, match="the sandbox does not know"):
        function(events=f"{{E: {event}}}")
