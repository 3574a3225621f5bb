"""Objectives for which thresholds can be chosen, and their names in settings and reports."""

from collections.abc import Sequence

from polytag.errors import SettingsError, listed

OBJECTIVES = "f1, subset, precision=0.9, recall=0.9 or fnr=0.1 (or another value between 0 and 1)"


def parse_objective(objective: str) -> tuple[str, float]:
    """Return the name of an objective, and the required value of "precision", "recall" or "fnr".

    Raises:
        SettingsError: the objective is unknown, or the value is not between 0 and 1.
    """
    name, given, value = objective.partition("=")
    if name in ("f1", "subset") and not given:
        return name, 0.0
    try:
        wanted = float(value)
    except ValueError:
        wanted = 0.0
    if name not in ("precision", "recall", "fnr") or not 0 < wanted < 1:
        raise SettingsError(f"the objective must be {OBJECTIVES}, not '{objective}'")
    return name, wanted


def aim(objective: str, out_of_reach: Sequence[str] = ()) -> str:
    """Describe the goal of the thresholds, and name the labels for which the validation photos do not confirm it."""
    name, wanted = parse_objective(objective)
    said = {
        "f1": "the F1 of each label",
        "subset": "photos with exactly the right labels",
        "precision": f"a precision of at least {wanted:g} for each label, and as much recall as that allows",
        "recall": f"a recall of {wanted:g} for each label, and as much precision as that allows",
        "fnr": f"an expected share of missed labels of at most {wanted:g} per photo",
    }[name]
    if not out_of_reach:
        return said
    why = {
        "precision": "where too few validation photos confirm it",
        "recall": "which no validation photo shows",
        "fnr": "because there are too few validation photos",
    }.get(name, "")
    return f"{said}, except for {listed(list(out_of_reach))}, {why}"
