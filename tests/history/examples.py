"""Settings of property tests: a number of examples and no deadline, since the machine may be busy."""

from hypothesis import HealthCheck, settings


def examples(number: int) -> settings:
    return settings(max_examples=number, deadline=None, suppress_health_check=[HealthCheck.too_slow])
