"""The funding schemes that a new hub starts with: names, bodies and rules, each rule with the day it took effect.

Decides nothing in code: these are the first rows of the `scheme` table, made by `init`, and the secretariat edits
them there. `from` is None where the day was not published.
"""

from __future__ import annotations

from typing import Any, Final

_VETTING: Final = "New Industrialisation Vetting Committee"


def _rule(rule: str, value: int | None, unit: str, words: str, start: str | None = None) -> dict[str, Any]:
    return {"rule": rule, "value": value, "unit": unit, "from": start, "words": words}


_MATCH: Final = _rule("enterprise_share_per_government_share", 2, "ratio", "1 (Government) : 2 (enterprise)")

SCHEMES: Final[tuple[dict[str, Any], ...]] = (
    {
        "id": "nifs",
        "name_en": "New Industrialisation Funding Scheme",
        "name_zh": "新型工業化資助計劃",
        "committee": _VETTING,
        "secretariat": "Innovation and Technology Commission",
        "rules": [
            _MATCH,
            _rule("max_grant_per_project", 15_000_000, "HKD", "at most HK$15 million a project"),
            _rule("max_projects_at_once", 3, "projects", "at most three projects at any one time"),
            _rule("max_grant_per_enterprise", 45_000_000, "HKD", "at most HK$45 million an enterprise"),
            _rule("streamlined_up_to", 2_800_000, "HKD", "a streamlined path up to HK$2.8 million"),
        ],
    },
    {
        "id": "nias",
        "name_en": "New Industrialisation Acceleration Scheme",
        "name_zh": "新型工業加速計劃",
        "committee": _VETTING,
        "secretariat": "Innovation and Technology Commission",
        "rules": [
            _MATCH,
            _rule("max_grant_per_enterprise", 200_000_000, "HKD", "at most HK$200 million an enterprise"),
            _rule("min_project_cost", 200_000_000, "HKD", "an investment of at least HK$200 million", "2023-01-01"),
            _rule("min_project_cost", 150_000_000, "HKD", "a project cost of at least HK$150 million", "2025-11-18"),
            _rule("min_enterprise_share", 100_000_000, "HKD", "at least HK$100 million of its own", "2025-11-18"),
            _rule("max_projects_at_once", 2, "projects", "at most two projects"),
            _rule("max_length", 36, "months", "at most 36 months"),
        ],
    },
    {
        "id": "manufacturing-plus",
        "name_en": "Manufacturing+: Pilot Manufacturing and Production Line Upgrade Support Scheme",
        "name_zh": "「製造+」：製造及生產線升級支援先導計劃",
        "committee": "Manufacturing+ Committee",
        "secretariat": "Hong Kong Productivity Council",
        "rules": [
            _MATCH,
            _rule("max_grant_per_enterprise", 250_000, "HKD", "at most HK$250,000 each"),
            _rule("scheme_budget", 100_000_000, "HKD", "HK$100 million in all"),
            _rule("min_years_of_operation", 1, "years", "substantive operation in Hong Kong for at least one year"),
            _rule("effectiveness_review", 24, "months", "the scheme's effectiveness is reviewed after two years"),
        ],
    },
)
