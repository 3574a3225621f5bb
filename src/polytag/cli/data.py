"""Commands that look at data, clean it and deal it out."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

import polytag as pt
from polytag.cli.app import (
    Conflicts,
    ConflictsOption,
    Data,
    ImageColumn,
    Images,
    LabelColumn,
    Overwrite,
    Seed,
    SplitFile,
    app,
    one_line_errors,
    read,
)
from polytag.errors import SettingsError, WeightsError, counted
from polytag.models.backbones.weights import how_to_get_weights
from polytag.progress import progress_bar

if TYPE_CHECKING:
    from polytag.auditing.audit import Audit
    from polytag.data.dataset import Dataset

LabelErrors = Annotated[
    bool,
    typer.Option("--label-errors", help="Look for missing and wrong labels too, by cross-validated probabilities."),
]


@app.command()
@one_line_errors
def sample(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it must not hold anything yet.")],
    images: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 1000,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Side of a scene, in pixels.")] = 192,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same scenes.")] = 0,
) -> None:
    """Write the built-in data set: drawn scenes of ten labels."""
    with progress_bar(images, "drawing scenes", "scene") as bar:
        pt.write_sample(folder, images, size, seed, bar.update)
    print(f"{counted(images, 'scene')} in {folder}")


@app.command()
@one_line_errors
def convert(
    data: Data,
    out: Annotated[Path, typer.Argument(help="Table to write: .csv, .tsv or .parquet.")],
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    conflicts: ConflictsOption = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the labels as one table, whatever form they come in."""
    _refuse_existing(out, overwrite)
    dataset = read(data, images, image_column, label_column, conflicts)
    photos = pt.write_table(out, dataset)
    print(f"{counted(len(dataset), 'row')} in {out}{_how_to_read(photos)}")


@app.command()
@one_line_errors
def audit(
    data: Data,
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_file: SplitFile = None,
    label_errors: LabelErrors = False,
    json: Annotated[Path | None, typer.Option(help="Write all flagged findings to this JSON file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with pictures into this folder.")] = None,
    clean: Annotated[Path | None, typer.Option(help="Write a cleaned table: .csv, .tsv or .parquet.")] = None,
    decisions: Annotated[
        Path | None,
        typer.Option(help="File of decisions that --clean follows; by default beside its table, and made if missing."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Look for everything that is odd about photos and labels; changes nothing."""
    from polytag.auditing import report as audit_report
    from polytag.auditing.clean import clean as write_clean
    from polytag.auditing.issues import ISSUES
    from polytag.data.reading.write import TABLE_ENDINGS
    from polytag.data.splitting.split_file import read_split
    from polytag.pages.page import PAGE

    for path in (json, clean, report and report / PAGE):
        if path is not None:
            _refuse_existing(path, overwrite)
    if clean is not None and clean.suffix not in TABLE_ENDINGS:
        raise SettingsError(f"--clean writes {', '.join(TABLE_ENDINGS)}, not '{clean.suffix}'")
    if decisions is not None and clean is None:
        raise SettingsError("--decisions goes with --clean: name the table to write")
    dataset = read(data, images, image_column, label_column, Conflicts.unknown)
    if split_file is not None:
        dataset = replace(dataset, parts=read_split(split_file, dataset))
    found = _audit(dataset, label_errors)
    print()
    width = max((len(ISSUES[issue].title) for issue in found.counts), default=0)
    for issue, count in found.counts.items():
        example = found.flagged[found.flagged["issue"] == issue].iloc[0]
        about = " · ".join(filter(None, (example["image"], example["label"], example["detail"])))
        print(f"{ISSUES[issue].weight:7}  {ISSUES[issue].title:{width}}  {count:>7,}   {about}")
    s = found.statistics
    print(f"\n{audit_report.answer(found)}")
    print(
        f"{counted(int(s['pictures']), 'picture')} in {counted(int(s['readable']), 'photo')}, "
        f"{s['cardinality']:.2f} labels per photo (density {s['density']:.3f}), "
        f"{counted(int(s['combinations']), 'combination')}, mean imbalance ratio {s['mean_imbalance_ratio']:.1f}"
    )
    if json is not None:
        found.save(json)
        print(f"findings: {json}")
    if report is not None:
        print(f"report: {audit_report.write_report(found, report, Path(data).resolve().stem, overwrite)}")
    if clean is not None:
        decisions = decisions or clean.with_suffix(".decisions.csv")
        cleaned, photos = write_clean(found, clean, decisions, overwrite)
        print(f"cleaned: {counted(len(cleaned), 'row')} in {clean}{_how_to_read(photos)}, as {decisions} says")


@app.command()
@one_line_errors
def explore(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the page.")],
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    conflicts: ConflictsOption = None,
    overwrite: Overwrite = False,
) -> None:
    """Show the data on one page: samples, labels, combinations, sizes, colours and a map."""
    from polytag.exploring.explore import explore as write_page
    from polytag.pages.page import PAGE

    _refuse_existing(out / PAGE, overwrite)
    dataset = read(data, images, image_column, label_column, conflicts)
    _measure(dataset)
    print(write_page(dataset, out, _embeddings(dataset, "plain", "embedding photos"), overwrite=overwrite))


@app.command()
@one_line_errors
def review(
    data: Data,
    decisions: Annotated[Path, typer.Option(help="File that takes the decisions, each at once.")] = Path(
        "decisions.csv"
    ),
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    label_errors: LabelErrors = False,
    host: Annotated[str, typer.Option(help="Address to listen on; 127.0.0.1 lets only this machine in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8001,
) -> None:
    """Decide about suspicious photos and labels on a local page; stops and goes on where it was."""
    from polytag.auditing.clean import propose
    from polytag.auditing.decisions import write_decisions
    from polytag.serving.review.review import serve_review
    from polytag.serving.review.suspects import suspects_of

    dataset = read(data, images, image_column, label_column, Conflicts.unknown)
    found = _audit(dataset, label_errors)
    if not decisions.exists():
        write_decisions(decisions, propose(found))
    suspects = suspects_of(found)
    print(f"{counted(len(suspects), 'question')}; decisions go to {decisions}", flush=True)
    serve_review(
        found.dataset,
        suspects,
        decisions,
        data,
        host,
        port,
        on_ready=lambda url: print(f"open {url} in a browser; Ctrl-C stops", flush=True),
    )


@app.command()
@one_line_errors
def split(
    data: Data,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("split.csv"),
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    conflicts: ConflictsOption = None,
    split_file: SplitFile = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Split into train, validation and test, 70/15/15, keeping photos of one picture together."""
    from polytag.data.splitting.stratify import PARTS

    _refuse_existing(out, overwrite)
    dataset = read(data, images, image_column, label_column, conflicts)
    with progress_bar(len(dataset), "looking for copies", "photo") as bar:
        parts = pt.split(dataset, seed=seed, given=split_file, on_progress=bar.update)
    pt.write_split(out, *parts)
    for note in parts[0].notes[len(dataset.notes) :]:
        print(f"  {note}")
    rows = pt.shares(parts)
    width = max(len(what) for what, *_ in rows)
    print(f"\n{'':{width}}  " + "  ".join(f"{name:>17}" for name in PARTS))
    for number, (what, total, counts) in enumerate(rows):
        if number == len(dataset.labels) + 1:
            print(f"{'commonest combinations':{width}}")
        print(f"{what:{width}}  " + "  ".join(f"{count:>8,} ({count / max(1, total):6.1%})" for count in counts))
    together = np.unique(np.concatenate([part.groups for part in parts]), return_counts=True)[1]
    kept = together[together > 1]
    if len(kept):
        sizes = f"{counted(int(kept.sum()), 'image')}, the largest of {int(kept.max()):,}"
        print(f"\n{counted(len(kept), 'group')} of images kept together ({sizes})")
    print(f"\n{counted(pt.leaks(parts), 'picture')} in more than one part; written to {out}")


def _audit(dataset: "Dataset", label_errors: bool) -> "Audit":
    from polytag.auditing.audit import audit as look

    _measure(dataset)
    small = _embeddings(dataset, "half", "embedding photos")
    probabilities = None
    if label_errors:
        if small is None:
            raise WeightsError(f"--label-errors needs pretrained weights: {how_to_get_weights()}")
        from polytag.models.classical.probe import out_of_sample

        # The mean over both ways a photo can face is steadier; training embeds the mirror images as well.
        views = _embeddings(dataset, "plain", "embedding larger photos")
        mirrored = _embeddings(dataset, "flipped", "embedding mirror images")
        assert views is not None and mirrored is not None  # there were weights a moment ago
        views = (views + mirrored) * np.float32(0.5)
        groups = pt.keep_together(dataset, small).groups
        with progress_bar(len(dataset), "judging labels", "photo") as bar:
            probabilities = out_of_sample(views, dataset.targets, groups, on_progress=bar.update)
    return look(dataset, small, probabilities)


def _measure(dataset: "Dataset") -> None:
    """Read each photo once: what comes later finds measurements and pixels in the cache."""
    from polytag.photos.measure import measure

    with progress_bar(len(dataset), "measuring photos", "photo") as bar:
        measure(dataset.paths, bar.update)


def _embeddings(dataset: "Dataset", view: str, doing: str) -> NDArray[np.float32] | None:
    """Embed the photos; without pretrained weights say what is missed and go on."""
    from polytag.models.backbones.embed import embeddings_of

    with progress_bar(len(dataset), doing, "photo") as bar:
        embeddings = embeddings_of(dataset.paths, view=view, on_progress=bar.update)
    if embeddings is None:
        print(f"  without pretrained weights photos are not compared by what they show: {how_to_get_weights()}")
    return embeddings


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise SettingsError(f"{path} exists already: name another place, or add --overwrite")


def _how_to_read(images: Path | None) -> str:
    """How to read a table from which the photos are not found by themselves."""
    return "" if images is None else f" (read it with --images {images})"
