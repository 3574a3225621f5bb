"""What thresholds can be for, as settings and reports name it."""

from collections.abc import Sequence

from polytag.errors import SettingsError, listed

OBJECTIVES = "f1, subset, precision=0.9 or recall=0.9 (or another value between 0 and 1)"


def parse_objective(objective: str) -> tuple[str, float]:
    """What thresholds are for: "f1", "subset", "precision" or "recall", and the value that the last two must reach.

    Raises:
        SettingsError: it is none of these.
    """
    name, given, value = objective.partition("=")
    if name in ("f1", "subset") and not given:
        return name, 0.0
    try:
        wanted = float(value)
    except ValueError:
        wanted = 0.0
    if name not in ("precision", "recall") or not 0 < wanted < 1:
        raise SettingsError(f"the objective must be {OBJECTIVES}, not '{objective}'")
    return name, wanted


def aim(objective: str, out_of_reach: Sequence[str] = ()) -> str:
    """What thresholds are for, in words, and for which labels validation photos do not promise it."""
    name, wanted = parse_objective(objective)
    told = {
        "f1": "the F1 of each label",
        "subset": "photos with exactly the right labels",
        "precision": f"a precision of {wanted:g} of each label and as much recall as that leaves",
        "recall": f"a recall of {wanted:g} of each label and as much precision as that leaves",
    }[name]
    if not out_of_reach:
        return told
    why = (
        "where no cut reaches it on the validation photos" if name == "precision" else "which no validation photo shows"
    )
    return f"{told}, except for {listed(list(out_of_reach))}, {why}"
