"""Commands that inspect, clean, convert and split data."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import polytag as pt
from polytag.cli.app import Data, Host, Overwrite, Port, Seed, SplitFile, check_outputs, command, load, note
from polytag.cli.stopping import AGAIN, when_stopped
from polytag.data.reading.options import ReadOptions
from polytag.errors import SettingsError, WeightsError, counted, printable
from polytag.extras import require
from polytag.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from polytag.auditing.audit import Audit
    from polytag.data.dataset import Dataset
    from polytag.photos.pixels import View

Decisions = Annotated[
    Path | None,
    typer.Option(
        help="File with decisions, used by review and audit --clean. Default: NAME.decisions.csv next to the data."
    ),
]
LabelErrors = Annotated[
    bool,
    typer.Option(
        "--label-errors",
        metavar="",
        show_default=False,
        help="Also find missing and wrong labels with cross-validated probabilities.",
    ),
]
Converted = Annotated[
    Path, typer.Argument(metavar="OUT", help="File to write (.csv, .tsv, .parquet, .jsonl, .json), or new folder.")
]
To = Annotated[
    Literal["table", "metadata", "label-studio", "fiftyone", "coco", "folders"] | None,
    typer.Option("--to", help="Output format. Default: given by the name of OUT."),
]


@command("Data")
def sample(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write. It must be new or empty.")],
    images: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 1000,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Width and height of a scene, in pixels.")] = 192,
    seed: Annotated[int, typer.Option(min=0, help="Random seed. The same seed produces the same scenes.")] = 0,
) -> None:
    """Write a sample data set of synthetic scenes with ten labels."""
    with progress_bar(images, "drawing scenes", "scene") as bar:
        pt.write_sample(folder, images, size, seed, bar.update)
    print(f"{counted(images, 'scene')} in {folder}")


@command("Data")
def convert(
    data: Data,
    out: Converted,
    read: ReadOptions,
    to: To = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle whose predictions to add (Label Studio and FiftyOne only).")
    ] = None,
    link: Annotated[
        bool,
        typer.Option(
            "--link", metavar="", show_default=False, help="Link photos into folders instead of copying them."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar="", show_default=False, help="Print what would be written."),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the labels as a table or in another format."""
    from polytag.data.reading.forms import inputs_of
    from polytag.data.reading.writing.folders import plan_folders
    from polytag.data.reading.writing.forms import PREDICTED, form_of

    form = form_of(out, to)
    inputs = inputs_of(Path(data))
    check_outputs([out], [data], overwrite and form != "folders")
    if bundle is not None and form not in PREDICTED:
        raise SettingsError(f"--bundle works only with --to label-studio and --to fiftyone, not with {form}")
    dataset = load(data, read)
    if dry_run:
        places, notes = plan_folders(dataset) if form == "folders" else ([], [])
        note(*(f"  {one}" for one in [*(f"{out}/{place}" for place in places[:5]), *notes]))
        print(f"would write {counted(len(dataset), 'photo')} to {out} ({form})")
        return
    predictions, thresholds = (None, 0.5) if bundle is None else _predictions(bundle, dataset)
    written = pt.write(out, dataset, form, predictions=predictions, threshold=thresholds, link=link, inputs=inputs)
    note(*(f"  {one}" for one in written.notes))
    rows = "row" if form == "table" else "photo"
    print(f"{counted(len(dataset), rows)} in {out}{_how_to_read(written.images)}")


def _predictions(bundle: Path, dataset: "Dataset") -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
    """Predict with a bundle for the labels of the dataset.

    Returns:
        Probabilities, float32 (n, k), with NaN for labels that the bundle does not have; and thresholds, float32 (k,).
    """
    import numpy as np

    opened = pt.Bundle(bundle)
    known = [label for label in dataset.labels if label in opened.labels]
    if not known:
        raise SettingsError(f"{bundle} has none of the labels in the data. Choose another bundle.")
    found, _ = opened.predict(dataset.paths)
    own = [dataset.labels.index(label) for label in known]
    of_bundle = [opened.labels.index(label) for label in known]
    predictions = np.full((len(dataset), len(dataset.labels)), np.nan, np.float32)
    thresholds = np.full(len(dataset.labels), 0.5, np.float32)
    predictions[:, own] = found[:, of_bundle]
    thresholds[own] = np.asarray(opened.thresholds, np.float32)[of_bundle]
    return predictions, thresholds


@command("Data")
def audit(
    data: Data,
    read: ReadOptions,
    split_file: SplitFile = None,
    label_errors: LabelErrors = False,
    json: Annotated[Path | None, typer.Option(help="JSON file to write, with all findings.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder to write, with an illustrated report.")] = None,
    clean: Annotated[Path | None, typer.Option(help="Cleaned table to write (.csv, .tsv or .parquet).")] = None,
    decisions: Decisions = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", metavar="", show_default=False, help="With --clean, print what would change. Write nothing."
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Find problems in photos and labels without changing them."""
    from polytag.auditing.decisions import default_decisions
    from polytag.auditing.report import write_report
    from polytag.data.reading.write import TABLE_EXTENSIONS
    from polytag.data.splitting.split_file import with_split
    from polytag.pages.page import PAGE

    if label_errors:
        require("sklearn", "train", "--label-errors")
    check_outputs([json, clean, report and report / PAGE], [data, split_file, decisions], overwrite)
    if clean is not None and clean.suffix not in TABLE_EXTENSIONS:
        raise SettingsError(f"--clean writes {', '.join(TABLE_EXTENSIONS)}, not '{clean.suffix}'")
    if decisions is not None and clean is None:
        raise SettingsError("--decisions needs --clean. Name the table to write with --clean.")
    if dry_run and (clean is None or json is not None or report is not None):
        raise SettingsError("--dry-run works only with --clean, and without --json and --report.")
    dataset = load(data, _undecided(read))
    if split_file is not None:
        dataset = with_split(dataset, split_file)
    found = _audit(dataset, label_errors)
    note(*(f"  {one}" for one in found.dataset.notes[len(dataset.notes) :]))
    _print_findings(found)
    if json is not None:
        found.save(json)
        print(f"findings: {json}")
    if report is not None:
        print(f"report: {write_report(found, report, Path(data).resolve().stem, overwrite)}")
    found = _settled(found, read)
    if clean is not None and dry_run:
        _print_cleaning(found, clean, decisions or default_decisions(data))
    elif clean is not None:
        _clean(found, clean, decisions or default_decisions(data), overwrite)


def _print_findings(found: "Audit") -> None:
    """Print one line per kind of finding, followed by statistics of the data set."""
    from polytag.auditing.issues import ISSUES
    from polytag.auditing.report import answer

    print()
    width = max((len(ISSUES[issue].title) for issue in found.counts), default=0)
    for issue, count in found.counts.items():
        example = found.findings[found.findings["issue"] == issue].iloc[0]
        about = " · ".join(filter(None, (example["image"], example["label"], example["detail"])))
        print(f"{ISSUES[issue].weight:7}  {ISSUES[issue].title:{width}}  {count:>7,}   {printable(about)}")
    s = found.statistics
    print(f"\n{answer(found)}")
    print(
        f"{counted(int(s['pictures']), 'picture')} in {counted(int(s['readable']), 'photo')}, "
        f"{s['cardinality']:.2f} labels per photo (density {s['density']:.3f}), "
        f"{counted(int(s['combinations']), 'combination')}, mean imbalance ratio {s['mean_imbalance_ratio']:.1f}"
    )


def _clean(found: "Audit", out: Path, decisions: Path, overwrite: bool) -> None:
    from polytag.auditing.clean import clean

    cleaned, photos = clean(found, out, decisions, overwrite)
    _say_split(found, cleaned)
    print(f"cleaned: {counted(len(cleaned), 'row')} in {out}{_how_to_read(photos)}, with the decisions in {decisions}")


def _say_split(found: "Audit", cleaned: pt.Dataset) -> None:
    """Say if the given split is not in the cleaned table."""
    if found.dataset.parts is not None and cleaned.parts is None:
        note(cleaned.notes[-1])


def _print_cleaning(found: "Audit", out: Path, decisions: Path, at_most: int = 20) -> None:
    """Print the decisions that cleaning would apply, one per line, and the number of rows that it would write."""
    from polytag.auditing.clean import plan_cleaning

    cleaned, _, taken = plan_cleaning(found, decisions)
    _say_split(found, cleaned)
    for one in taken[:at_most]:
        about = " · ".join(filter(None, (one.image, one.label, one.into and f"into {one.into}", one.reason)))
        print(f"{one.action:8} {printable(about)}")
    if len(taken) > at_most:
        print(f"and {counted(len(taken) - at_most, 'decision')} more")
    print(f"would write {counted(len(cleaned), 'row')} to {out}")


@command("Data")
def explore(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page.")],
    read: ReadOptions,
    overwrite: Overwrite = False,
) -> None:
    """Show samples, labels, sizes and a map of photos on a page."""
    require("sklearn", "train", "Exploring")
    from polytag.exploring.explore import explore as write_page
    from polytag.pages.page import PAGE

    check_outputs([out / PAGE], [data], overwrite)
    dataset = load(data, read)
    _measure(dataset)

    def embedded(rows: "NDArray[np.int64]") -> "NDArray[np.float32]":
        found = _embeddings(dataset.take(rows), "plain", "embedding photos for the map")
        assert found is not None  # The weights have been found before.
        return found[:]

    print(write_page(dataset, out, embedded if _has_weights() else None, overwrite=overwrite))


@command("Data")
def review(
    data: Data,
    read: ReadOptions,
    decisions: Decisions = None,
    label_errors: LabelErrors = False,
    host: Host = "127.0.0.1",
    port: Port = 8001,
) -> None:
    """Review suspect photos and labels on a local web page."""
    from polytag.auditing.clean import propose
    from polytag.auditing.decisions import default_decisions, write_decisions
    from polytag.serving.review.review import serve_review
    from polytag.serving.review.suspects import suspects_of

    decisions = decisions or default_decisions(data)
    if label_errors:
        require("sklearn", "train", "--label-errors")
    found = _audit(load(data, _undecided(read)), label_errors)
    if not decisions.exists():
        write_decisions(decisions, propose(_settled(found, read)))
    suspects = suspects_of(found)
    print(f"{counted(len(suspects), 'question')}. Decisions are saved in {decisions}.", flush=True)
    serve_review(
        found.dataset,
        suspects,
        decisions,
        data,
        host,
        port,
        on_ready=lambda url: print(f"Open {url} in a browser. Press Ctrl-C to stop.", flush=True),
    )


@command("Data")
def split(
    data: Data,
    read: ReadOptions,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("split.csv"),
    split_file: SplitFile = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Split the data 70/15/15 and keep similar photos together."""
    check_outputs([out], [data, split_file], overwrite)
    dataset = load(data, read)
    with progress_bar(len(dataset), "looking for duplicates", "photo") as bar:
        parts = pt.split(dataset, seed=seed, given=split_file, on_progress=bar.update)
    pt.write_split(out, *parts)
    note(*(f"  {one}" for one in parts[0].notes[len(dataset.notes) :]))
    _print_shares(parts, len(dataset.labels))
    print(f"\n{pt.leaks(parts)}; written to {out}")


def _print_shares(parts: "tuple[Dataset, Dataset, Dataset]", labels: int) -> None:
    """Print how images, labels and common label combinations are distributed among the parts."""
    import numpy as np

    from polytag.data.dataset import PARTS

    rows = pt.shares(parts)
    width = max(len(what) for what, *_ in rows)
    print(f"\n{'':{width}}  " + "  ".join(f"{name:>17}" for name in PARTS))
    for number, (what, total, counts) in enumerate(rows):
        if number == labels + 1:
            print(f"{'most common combinations':{width}}")
        print(
            f"{printable(what):{width}}  "
            + "  ".join(f"{count:>8,} ({count / max(1, total):6.1%})" for count in counts)
        )
    together = np.unique(np.concatenate([part.groups for part in parts]), return_counts=True)[1]
    kept = together[together > 1]
    if len(kept):
        sizes = f"{counted(int(kept.sum()), 'image')}, up to {int(kept.max()):,} per group"
        print(f"\n{counted(len(kept), 'group')} of images kept together ({sizes})")


def _undecided(read: ReadOptions) -> ReadOptions:
    """Mark contradictory labels as unknown instead of refusing the data, because an audit reports contradictions."""
    return replace(read, conflicts=read.conflicts or "unknown")


def _settled(found: "Audit", read: ReadOptions) -> "Audit":
    """Return an audit in which no conflict between rows is open if --conflicts has decided them all."""
    if read.conflicts not in ("union", "drop"):
        return found
    return replace(found, dataset=replace(found.dataset, disputed={}))


def _audit(dataset: "Dataset", label_errors: bool) -> "Audit":
    from polytag.auditing.audit import audit as look
    from polytag.models.backbones.weights import how_to_get_weights

    _measure(dataset)
    small = _embeddings(dataset, "half", "embedding photos")
    probabilities = None
    if label_errors:
        if small is None:
            raise WeightsError(f"--label-errors needs pretrained weights: {how_to_get_weights()}")
        import numpy as np

        from polytag.models.classical.probe import out_of_sample

        # Averaging the embeddings of a photo and its mirror image reduces noise, and training embeds both anyway.
        views = _embeddings(dataset, "plain", "embedding larger photos")
        mirrored = _embeddings(dataset, "flipped", "embedding mirror images")
        assert views is not None and mirrored is not None  # The weights have been found before.
        features = views[:]
        features += mirrored[:]
        features *= np.float32(0.5)
        groups = pt.keep_together(dataset, small).groups
        with progress_bar(len(dataset), "checking labels", "photo") as bar:
            probabilities = out_of_sample(features, dataset.targets, groups, on_progress=bar.update)
    return look(dataset, small, probabilities)


def _measure(dataset: "Dataset") -> None:
    """Measure each photo, so that later steps find the measurements in the cache."""
    from polytag.photos.measure import measure

    when_stopped(lambda: f"{AGAIN} It continues where it stopped, because photos are cached.")
    with progress_bar(len(dataset), "measuring photos", "photo") as bar:
        measure(dataset.paths, bar.update)


def _has_weights() -> bool:
    """Return whether pretrained weights are installed. Otherwise, print what is skipped."""
    from polytag.models.backbones.weights import find_weights, how_to_get_weights

    found = find_weights().path is not None
    if not found:
        note(f"  without pretrained weights, photos are not compared by content: {how_to_get_weights()}")
    return found


def _embeddings(dataset: "Dataset", view: str, doing: str) -> "View | None":
    """Embed the photos. Without pretrained weights, print what is skipped and return ``None``."""
    from polytag.models.backbones.embed import embeddings_of

    if not _has_weights():
        return None
    with progress_bar(len(dataset), doing, "photo") as bar:
        return embeddings_of(dataset.paths, view=view, on_progress=bar.update)


def _how_to_read(images: Path | None) -> str:
    """Return a hint for reading the table, or "" if the photos will be found automatically."""
    return "" if images is None else f" (read it with --images {images})"
