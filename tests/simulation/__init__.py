"""A shop's day, hour by hour, in a few minutes: the real handlers, moto and the fake Pocketsflow in virtual time.

engine.py     what happens when: events in virtual time, and invocations that wait
weather.py    what fails: AWS, Pocketsflow, and functions that are killed
platform.py   how AWS calls the functions: requests, schedules, the stream, the parking queue
day.py        who does what: buyers, refunds, disputes, subscriptions, and what becomes of each webhook
connectors.py what goes from the bus on to the platforms, and what fails there
checks.py     what must be true at the end
agreement.py  the same of the connectors: the platforms' states against the ledger's
figures.py    what reconciliation costs and holds in memory
report.py     docs/reliability.md and its chart
motospeed.py  where moto's cost grows with the table, at a cost that does not
"""

import tests.conftest  # noqa: F401  # the functions' environment, before any of them is imported
