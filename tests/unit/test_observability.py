"""infra/observability.yaml against the code: what is alarmed, shown and asked for is emitted, what is emitted is used,
and each alarm is explained."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from ops.__main__ import pf
from payments import metrics, telemetry
from payments.event_names import EVENTS
from sandbox.subscriptions import STEPS
from sandbox.template import ROOT, Template, parse
from tests.unit.test_template import FUNCTIONS, SOURCE, TEXT, resolved, schedules

FUNCTION_DIR = ROOT / "functions"
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
README = (ROOT / "README.md").read_text()
IMPORTS: dict[str, str] = json.loads((ROOT / "tests/unit/imports.json").read_text())
OURS = "pocketsflow-test"
"""Namespace of the functions' own metrics."""


ROUTED = {"ServerRoutes": "on", "ShopifyShop": "name.myshopify.com", "Membership": "on"}
"""With every route."""


def nested(kind: str, **parameters: str) -> dict[str, dict[str, Any]]:
    """Resources of a type of the nested stack, parameters and conditions filled in, in a stack that has everything."""
    given = {"Stage": "test", "MonthlyBudget": "50", **ROUTED, **parameters}
    template = dict(Template(TEXT, given).nested())["Observability"]
    return dict(template.resources(kind))


ALARMS = nested("AWS::CloudWatch::Alarm")
ROLLOUT_ALARMS = {
    name: {
        **resource["Properties"],
        "AlarmName": resource["Properties"]["AlarmName"]["Fn::Sub"].replace("${Stage}", "test"),
    }
    for name, resource in parse((ROOT / "infra/rollout.yaml").read_text())["Resources"].items()
    if resource.get("Type") == "AWS::CloudWatch::Alarm"
}
"""Of a gradual deployment, in the stack itself."""
EXPLAINED = {**ALARMS, **ROLLOUT_ALARMS}
[DASHBOARD] = nested("AWS::CloudWatch::Dashboard").values()
QUERIES = nested("AWS::Logs::QueryDefinition")


def slug(alarm: dict[str, Any]) -> str:
    stack, _, name = alarm["AlarmName"].partition(".")
    assert stack == OURS
    return str(name)


def sections() -> dict[str, str]:
    """Of the runbook, by heading."""
    _, *parts = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)
    return {heading: text for heading, _, text in (part.partition("\n") for part in parts)}


Metric = tuple[str, str, tuple[tuple[str, str], ...]]


def watched(alarm: dict[str, Any]) -> list[Metric]:
    """Namespace, name and dimensions of what an alarm looks at."""
    found = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each] or [alarm]
    return [
        (each["Namespace"], each["MetricName"], tuple((at["Name"], at["Value"]) for at in each["Dimensions"]))
        for each in found
    ]


def shown() -> Iterator[Metric]:
    """What the dashboard names."""
    for widget in json.loads(DASHBOARD["DashboardBody"])["widgets"]:
        for row in widget["properties"].get("metrics", []):
            if isinstance(row[0], str):
                namespace, name, *rest = [each for each in row if isinstance(each, str)]
                yield namespace, name, tuple(zip(rest[::2], rest[1::2], strict=True))
            elif match := re.search(r'SEARCH\(.*MetricName="(\w+)"', row[0]["expression"]):
                service = "feed" if match[1].startswith("Deliver") and match[1] != "Deliveries" else "webhook"
                yield OURS, match[1], (("service", service),)


def names_of(argument: ast.expr) -> list[str]:
    """The metric names that an argument may be; fails for one that cannot be read here."""
    match argument:
        case ast.Constant(value=str(name)):
            return [name]
        case ast.IfExp(body=yes, orelse=no):
            return names_of(yes) + names_of(no)
        case ast.Call(func=ast.Attribute(value=ast.Name("ATTENTION"))):
            return ["NeedsAttention", *telemetry.ATTENTION.values()]
    raise AssertionError(f"no name of a metric: {ast.unparse(argument)}")


def emitted() -> set[tuple[str, str]]:
    """Service and name of every metric that the source may emit: by the modules that each function imports."""
    found = set()
    for path in (
        *FUNCTION_DIR.glob("*.py"),
        *FUNCTION_DIR.glob("payments/*.py"),
        *FUNCTION_DIR.glob("connectors/*.py"),
    ):
        module = path.relative_to(FUNCTION_DIR).with_suffix("").as_posix().replace("/", ".")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("count", "measure"):
                services = [each.rpartition(".")[2].replace("_", "-") for each in IMPORTS.get(module, module).split()]
                found |= {(service, name) for service in services for name in names_of(node.args[0])}
    return found


# --- The names --------------------------------------------------------------------------------------------------------


def test_what_is_alarmed_and_shown_is_emitted() -> None:
    """By that service, under that name, in that namespace."""
    ours = emitted()
    namespaces = {
        function["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"]
        for function in resolved("AWS::Serverless::Function", Stage="test", **ROUTED).values()
    }
    assert namespaces == {OURS}
    used = [*shown(), *(metric for alarm in ALARMS.values() for metric in watched(alarm))]
    assert len(used) > 60
    for namespace, name, dimensions in used:
        if namespace == OURS:
            [(dimension, service)] = dimensions
            assert (dimension, (service, name) in ours) == ("service", True), (service, name)


def test_what_is_emitted_is_used() -> None:
    """A metric costs money for as long as it is written: none that nobody looks at."""
    used = {name for _, name, _ in shown()} | {name for alarm in ALARMS.values() for _, name, _ in watched(alarm)}
    assert {name for _, name in emitted()} - used == set()


def test_what_aws_measures_is_of_this_stack() -> None:
    """Functions and queues that are there; the names of metrics are Lambda's and SQS's."""
    known = {
        "AWS/Lambda": {"Errors", "Throttles", "Duration", "IteratorAge"},
        "AWS/SQS": {"ApproximateNumberOfMessagesVisible"},
    }
    there = {f"{name}.Ref" for name in FUNCTIONS} | {"Parking.QueueName", "ParkedTooLong.QueueName"}
    used = [*shown(), *(metric for alarm in ALARMS.values() for metric in watched(alarm))]
    for namespace, name, dimensions in used:
        if namespace != OURS:
            assert name in known[namespace]
            assert {value for _, value in dimensions} <= there


def test_saved_queries_ask_for_what_is_logged() -> None:
    """Metrics by their names; fields are keys of a line, by the source; groups of logs are this stack's."""
    assert len(QUERIES) >= 5
    source = "\n".join(path.read_text() for path in FUNCTION_DIR.rglob("*.py"))
    names = {name for _, name in emitted()}
    groups = {f"{name}Logs.Ref" for name in ("Checkout", "Webhook", "Relay", "Reconcile", "Retain")}
    of_every_line = {"service", "level", "message"}
    for query in QUERIES.values():
        assert query["Name"].startswith(f"{OURS}/")
        assert set(query["LogGroupNames"]) <= groups
        text = re.sub(r"#.*|'[^']*'", "", query["QueryString"])
        assert set(re.findall(r"\b([A-Z]\w+)\.0", text)) <= names
        for fields in re.findall(r"^fields (.*)", text, re.MULTILINE):
            for field in fields.split(", "):
                plain = field.partition(".")[0].strip()
                is_key = f'"{plain}"' in source or f"{plain}=" in source
                assert plain.startswith("@") or plain in of_every_line or is_key, field


def test_the_dashboard_is_json_that_cloudwatch_takes() -> None:
    """Each widget has a title, a place in 24 columns and this region; of logs, of metrics."""
    widgets = json.loads(DASHBOARD["DashboardBody"])["widgets"]
    assert len(widgets) > 10
    for widget in widgets:
        assert widget["type"] in ("metric", "log")
        assert widget["width"] <= 24
        assert widget["properties"]["region"] == "eu-west-1"
        assert widget["properties"]["title"]


def test_what_the_account_has_of_all_regions_names_its_own() -> None:
    """A stage in another region has a dashboard and a budget as well, and takes neither from the first."""
    [budget] = nested("AWS::Budgets::Budget").values()
    assert DASHBOARD["DashboardName"] == f"{OURS}-eu-west-1"
    assert budget["Budget"]["BudgetName"] == f"{OURS}-eu-west-1.budget"


def test_events_that_a_metric_names() -> None:
    """Those that a sale, a refund and a subscription's life send, as far as they change anything. Any other is `other`:
    a header that nobody signed makes no metrics without end."""
    sent = {"order.completed", "order.refunded", "customer.subscription.created"}
    sent |= {event for step in STEPS.values() for event in step.events}
    assert sent - {*EVENTS} == {"customer.subscription.trial_will_end"}
    assert sent >= {*EVENTS}


# --- The alarms -------------------------------------------------------------------------------------------------------


def test_attention_is_alarmed_under_the_name_it_is_emitted(capsys: pytest.CaptureFixture[str]) -> None:
    """needs_attention() emits exactly the metric that an alarm watches: namespace, name and dimension."""
    metrics.clear()
    telemetry.needs_attention("test")
    metrics.write()
    written = next(json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line)
    [directive] = written["_aws"]["CloudWatchMetrics"]
    [metric] = directive["Metrics"]
    assert directive["Dimensions"] == [["service"]]
    found = {metric for alarm in ALARMS.values() for metric in watched(alarm) if metric[1] == "NeedsAttention"}
    assert found == {
        (directive["Namespace"], metric["Name"], (("service", service),))
        for service in ("checkout", "server", "shopify-checkout", "access", "webhook", "relay", "reconcile", "retain")
    }
    assert written["service"] == metrics.SERVICE


@pytest.mark.parametrize(
    "function", ["Checkout", "Server", "ShopifyCheckout", "Access", "Webhook", "Relay", "Reconcile"]
)
def test_alarms_name_the_function_s_service_and_namespace(function: str) -> None:
    """What the function is told to call itself is what its alarm looks for, in every stage."""
    functions = resolved("AWS::Serverless::Function", Stage="prod", **ROUTED)
    variables = functions[f"{function}Function"]["Environment"]["Variables"]
    alarm = nested("AWS::CloudWatch::Alarm", Stage="prod")[f"{function}AttentionAlarm"]
    assert alarm["Namespace"] == variables["POWERTOOLS_METRICS_NAMESPACE"] == "pocketsflow-prod"
    assert alarm["Dimensions"] == [{"Name": "service", "Value": variables["POWERTOOLS_SERVICE_NAME"]}]
    assert alarm["AlarmName"] == f"pocketsflow-prod.{variables['POWERTOOLS_SERVICE_NAME']}-attention"


@pytest.mark.parametrize(
    ("function", "metric"),
    [
        *((name, "Errors") for name in FUNCTIONS if name != "PreflightFunction"),
        ("CheckoutFunction", "Throttles"),
        ("WebhookFunction", "Throttles"),
        ("WebhookFunction", "Duration"),
        ("RelayFunction", "Throttles"),
        ("RelayFunction", "IteratorAge"),
    ],
)
def test_lambda_s_own_alarms(function: str, metric: str) -> None:
    """Crashes are alarmed, and so are functions that found no room, a relay that falls behind, and a webhook that is
    slow."""
    looked_for = ("AWS/Lambda", metric, (("FunctionName", f"{function}.Ref"),))
    assert sum(looked_for in watched(alarm) for alarm in ALARMS.values()) == 1


AT_ONCE = {
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 1,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "TreatMissingData": "notBreaching",
}
OTHERWISE: dict[str, dict[str, Any]] = {
    "WebhookSignatureAlarm": {"Period": 3_600},  # a stranger can set it off: an hour of silence must come before
    "RelayAgeAlarm": {"Statistic": "Maximum", "Threshold": 5 * 60 * 1_000},
    "ParkedTooLongAlarm": {"Statistic": "Maximum"},  # what lies there, not what comes
    "ReconcileSilentAlarm": {
        "Period": 1_800,
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "breaching",
    },
    "SecondPaymentAlarm": {"EvaluationPeriods": 5},  # what has not arrived is a nought: late figures are looked for
    "MismatchedAlarm": {"EvaluationPeriods": 5},
    "UnmatchedAlarm": {"EvaluationPeriods": 5},
    "UnusualCheckoutsAlarm": {"Period": 900, "Threshold": 100},
    "WebhookSlowAlarm": {
        "Statistic": None,  # a percentile instead
        "Period": 300,
        "Threshold": 2_500,
        "ComparisonOperator": "GreaterThanThreshold",
    },
    "FoundByReconcileAlarm": {"Period": 21_600, "Threshold": 10, "ComparisonOperator": "GreaterThanThreshold"},
}


def settings(alarm: dict[str, Any]) -> dict[str, Any]:
    """As of an alarm of one metric, where it is reckoned from several."""
    stats = [each["MetricStat"] for each in alarm.get("Metrics", []) if "MetricStat" in each]
    if stats:
        [same] = {(stat["Stat"], stat["Period"]) for stat in stats}
        alarm = {**alarm, "Statistic": same[0], "Period": same[1]}
    return {**{key: alarm.get(key) for key in AT_ONCE}, "Threshold": int(alarm["Threshold"])}


def test_alarms_go_off_at_once_and_tell_somebody() -> None:
    """One occurrence is enough, silence is no alarm, within a minute, but where it is said above; and the topic hears
    of each."""
    assert OTHERWISE.keys() <= ALARMS.keys()
    for name, alarm in ALARMS.items():
        assert settings(alarm) == {**AT_ONCE, **OTHERWISE.get(name, {})}, name
        assert alarm["AlarmActions"] == ["AlarmTopic.Ref"], name
        assert "ActionsEnabled" not in alarm, name
        assert alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]) == 1, name
    assert ALARMS["WebhookSlowAlarm"]["ExtendedStatistic"] == "p99"


def test_all_alarms_are_in_the_nested_stack() -> None:
    """Where their names are found by one prefix, which no other stage has: a stage's name has no dot."""
    kinds = {resource["Type"] for resource in SOURCE["Resources"].values()}
    assert "AWS::CloudWatch::Alarm" not in kinds
    names = [alarm["AlarmName"] for alarm in ALARMS.values()]
    assert len(set(names)) == len(names) > 20
    assert all(name.startswith(f"{OURS}.") for name in names)
    assert not re.fullmatch(SOURCE["Parameters"]["Stage"]["AllowedPattern"], "a.b")


def test_conditions_of_alarms() -> None:
    """What is not there is not alarmed: the server's routes, members, a number of checkouts, a share where all is found
    so."""
    every = set(ALARMS)

    def without(**parameters: str) -> set[str]:
        return every - nested("AWS::CloudWatch::Alarm", **parameters).keys()

    assert without(ServerRoutes="off") == {"ServerAttentionAlarm", "ServerErrorsAlarm"}
    assert without(ShopifyShop="") == {"ShopifyCheckoutAttentionAlarm", "ShopifyCheckoutErrorsAlarm"}
    assert without(Membership="off") == {"AccessAttentionAlarm", "AccessErrorsAlarm"}
    assert without(UnusualCheckouts="0") == {"UnusualCheckoutsAlarm"}
    assert without(Settle="confirmed") == {"FoundByReconcileAlarm"}
    assert nested("AWS::Budgets::Budget", MonthlyBudget="0") == {}


def test_thresholds_that_a_parameter_sets() -> None:
    alarms = nested("AWS::CloudWatch::Alarm", UnusualCheckouts="7", SignatureFailures="3")
    assert [alarms[f"{name}Alarm"]["Threshold"] for name in ("UnusualCheckouts", "WebhookSignature")] == ["7", "3"]


def test_nobody_speaks_to_a_topic_that_is_closed() -> None:
    """Alarms and the budget are made once CloudWatch and Budgets may publish."""
    assert SOURCE["Resources"]["Observability"]["DependsOn"] == "AlarmTopicPolicy"


def test_the_budget_tells_the_topic() -> None:
    """Before it is spent, and when it is going to be."""
    [budget] = nested("AWS::Budgets::Budget").values()
    assert budget["Budget"]["BudgetLimit"] == {"Amount": "50", "Unit": "USD"}
    for told in budget["NotificationsWithSubscribers"]:
        assert told["Subscribers"] == [{"SubscriptionType": "SNS", "Address": "AlarmTopic.Ref"}]
    kinds = [told["Notification"]["NotificationType"] for told in budget["NotificationsWithSubscribers"]]
    assert kinds == ["ACTUAL", "FORECASTED"]


def test_the_silence_of_reconciliation_is_alarmed() -> None:
    """Half an hour is six runs, so that one that is cut short is none."""
    alarm = ALARMS["ReconcileSilentAlarm"]
    assert watched(alarm) == [(OURS, "ReconcileCompleted", (("service", "reconcile"),))]
    assert alarm["Period"] == 6 * min(seconds for _, seconds, _ in schedules())


def test_what_lies_in_the_dead_letter_queue_is_alarmed() -> None:
    """For as long as anything lies there."""
    queue = (("QueueName", "ParkedTooLong.QueueName"),)
    assert watched(ALARMS["ParkedTooLongAlarm"]) == [("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue)]


# --- The runbook ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPLAINED)
def test_every_alarm_is_explained(name: str) -> None:
    """It says what it means and which command to run, and where more is written; there it is written."""
    alarm = EXPLAINED[name]
    about = alarm["AlarmDescription"]
    assert len(about) <= 1024
    assert about.endswith(f" docs/runbook.md#{slug(alarm)}")
    assert re.search(r"`pf [a-z]+", about)
    section = sections()[slug(alarm)]
    for word in ("- Look: ", "- Do: ", "- Nothing: "):
        assert word in section


def test_the_runbook_has_no_other_sections() -> None:
    """Each is an alarm's, or the budget's, and the table at the top leads to each."""
    of_stack = {name for name in sections() if not name.startswith("connector-")}  # those: test_connector_template.py
    assert of_stack == {*(slug(alarm) for alarm in EXPLAINED.values()), "budget"}
    contents, _, _ = RUNBOOK.partition("\n## ")
    assert set(re.findall(r"\]\(#([a-z-]+)\)", contents)) == sections().keys()
    assert set(re.findall(r"\]\(#([a-z-]+)\)", RUNBOOK)) == sections().keys()
    assert "observability.yaml](../infra/observability.yaml)" in contents


def test_commands_exist() -> None:
    """Those that an alarm or the runbook names are commands of `pf`, with options that it takes; the parameters are
    the template's."""
    texts = [RUNBOOK, *(alarm["AlarmDescription"] for alarm in EXPLAINED.values())]
    named = {command for text in texts for command in re.findall(r"`pf ([^`]+)`", text)}
    assert len(named) > 15
    for command, *arguments in map(shlex.split, named):
        assert command in pf.commands
        if arguments:
            pf.commands[command].make_context(command, arguments)  # raises for what it does not take
    for name in re.findall(r"`([A-Z][A-Za-z]+)(?:=\w+)?`", RUNBOOK):
        assert name in {*SOURCE["Parameters"], *SOURCE["Outputs"], "ParkedTooLong"}, name


def test_what_alarms_cost() -> None:
    """The README counts the alarms of a stack as it is by default, and what they look at: that is what is paid for."""
    alarms = nested("AWS::CloudWatch::Alarm", ServerRoutes="off", ShopifyShop="", Membership="off")
    looked_at = sum(len(watched(alarm)) for alarm in alarms.values())
    assert f"| {len(alarms)} alarms, which look at {looked_at} metrics | {looked_at} × 0.10 |" in README
