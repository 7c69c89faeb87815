"""grafana-foundation-sdk, imported once and without its warning.

Decides only that: the SDK recommends its second dashboard schema at import. Grafana's uid-based API and its
provisioning files take the first in every version from 12 on.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import common, dashboard, stat, statetimeline, timeseries
    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.variants import Dataquery
    from grafana_foundation_sdk.models import common as common_model
    from grafana_foundation_sdk.models import dashboard as dashboard_model

__all__ = [
    "Builder",
    "Dataquery",
    "JSONEncoder",
    "common",
    "common_model",
    "dashboard",
    "dashboard_model",
    "stat",
    "statetimeline",
    "timeseries",
]
