"""Draw the charts of the explore page. Each has a title and a sentence computed from the same numbers."""

import numpy as np
from numpy.typing import NDArray

from polytag.errors import counted
from polytag.exploring import figures
from polytag.exploring.counts import Counts
from polytag.exploring.figures import names_of
from polytag.pages.figures import Chart, heatmap, room
from polytag.pages.text import agreed, joined, percent, ratio
from polytag.photos.decode import IMAGENET_DEVIATION, IMAGENET_MEAN
from polytag.photos.measure import BINS, Measurements

LABELS_DRAWN, LABELS_IN_COLUMN, LABELS_IN_HEATMAP = 60, 12, 25
COMBINATIONS_DRAWN, LABELS_IN_COMBINATIONS = 20, 40
"""Maximum number of combinations in a chart and of labels in it, so that charts stay readable."""

DARK, BRIGHT = 0.15, 0.85
"""Photos with a mean brightness beyond these limits are counted as dark or bright."""

MODEL_SIDE = 224
"""Default input size of models, in pixels."""

MEAN, DEVIATION = np.array(IMAGENET_MEAN), np.array(IMAGENET_DEVIATION)
"""Channel statistics with which the transfer model normalizes values from 0 to 1."""


def of_all(c: Counts, photos: int) -> str:
    """Format a number of photos as "580 of 2,000 photos (29%)"."""
    return f"{photos:,} of {counted(c.n, 'photo')} ({percent(photos, c.n)})"


def frequency(c: Counts) -> list[Chart]:
    """Chart how frequent each label is. Many labels need two figures, which share a title and an explanation."""
    drawn = c.order[:LABELS_DRAWN]
    columns = 1 if len(drawn) <= LABELS_IN_COLUMN else 2
    # Both figures have the same margins and scale, so that readers can compare them.
    left, most = room(names_of(c.labels, drawn)), int((c.photos + c.unknown)[drawn].max())
    title, reading = _frequency_words(c)
    if len(c.labels) > len(drawn):
        reading += f" The chart shows the {len(drawn)} most frequent of {len(c.labels):,} labels."
    charts = []
    for i in range(columns):
        part = drawn[i * len(drawn) // columns : (i + 1) * len(drawn) // columns]
        names = names_of(c.labels, part)
        figure = figures.label_frequency(names, c.photos[part], c.unknown[part], c.n, left, most)
        charts.append(Chart.of(f"frequency{i}", figure, title, reading))
    return charts


def _frequency_words(c: Counts) -> tuple[str, str]:
    shown = [int(j) for j in c.order if c.photos[j]]
    unknown = int(c.unknown.sum())
    pale = f" {percent(unknown, c.n * len(c.labels))} of all entries are unknown (pale)." if unknown else ""
    if not shown:
        return "No label is known to be present", f"None of the {counted(len(c.labels), 'label')} is present.{pale}"
    first, last = shown[0], shown[-1]
    reading = f"{of_all(c, c.photos[first])} {'has' if c.n == 1 else 'have'} the label {c.labels[first]}"
    if len(shown) == 1:
        title = f"The only label{'' if len(c.labels) == 1 else ' that occurs'} is {c.labels[first]}"
    elif c.photos[first] == c.photos[last]:
        title = "All labels that occur are equally frequent"
        reading += (
            f". The other {len(shown) - 1:,} have as many" if len(shown) > 2 else f", as many as {c.labels[last]}"
        )
    else:
        title = f"Most frequent: {c.labels[first]}. Least frequent: {c.labels[last]}"
        reading += f", {ratio(c.photos[first] / c.photos[last])} times as many as {c.labels[last]} ({c.photos[last]:,})"
    never = [c.labels[j] for j in c.order if not c.photos[j]]
    rest = [*never[:5], f"{len(never) - 5:,} more"] if len(never) > 5 else never
    return title, f"{reading}.{f' No photo has {joined(rest)}.' if never else ''}{pale}"


def labels_per_photo(c: Counts) -> Chart:
    """Chart how many labels each photo has."""
    one, none, most = int((c.per_photo == 1).sum()), int((c.per_photo == 0).sum()), int(c.per_photo.max())
    reading = (
        f"{agreed(one, 'has', 'have')} exactly one label ({percent(one, c.n)}), and "
        f"{agreed(none, 'has', 'have') if none else 'no photo has'} none. No photo has more than "
        f"{counted(most, 'label')}."
    )
    if c.unknown.any():
        reading += " Unknown labels are not counted."
    title = f"{c.per_photo.mean():.2f} labels per photo on average"
    return Chart.of("per-photo", figures.labels_per_photo(np.bincount(c.per_photo)), title, reading)


def combinations(c: Counts) -> Chart:
    """Chart the combinations of labels that photos have."""
    photos = c.sets[2]
    drawn = c.combinations(COMBINATIONS_DRAWN)
    first = drawn[0]
    reading = f"{of_all(c, first.photos)} {'has' if c.n == 1 else 'have'} it."
    if len(photos) > len(drawn):
        covered = percent(sum(combination.photos for combination in drawn), c.n)
        reading += (
            f" The chart shows the {len(drawn)} most frequent of {len(photos):,} combinations, "
            f"which cover {covered} of the photos."
        )
    else:
        reading += f" There {'is' if len(photos) == 1 else 'are'} {counted(len(photos), 'combination')} in all."
    once = int((photos == 1).sum())
    if once and len(photos) > 1:
        reading += f" {agreed(once, 'occurs', 'occur', 'combination')} only once."
    involved = {j for combination in drawn for j in combination.labels}
    rows = [int(j) for j in c.order if j in involved][:LABELS_IN_COMBINATIONS]
    if len(involved) > len(rows):
        reading += f" Of the {len(involved):,} labels in them, the {len(rows)} most frequent have a row."
    place = {j: row for row, j in enumerate(rows)}
    figure = figures.combinations(
        [[place[j] for j in combination.labels if j in place] for combination in drawn],
        [combination.photos for combination in drawn],
        names_of(c.labels, rows),
    )
    return Chart.of("combinations", figure, f"Most frequent combination: {c.name(first)}", reading)


def together(c: Counts) -> Chart | None:
    """Chart which labels occur together, or return ``None`` if no two labels do."""
    drawn = [int(j) for j in c.order[:LABELS_IN_HEATMAP] if c.photos[j]]
    occur = c.order[c.photos[c.order] > 0]
    both, share = c.together
    pairs = both[np.ix_(occur, occur)][np.triu_indices(len(occur), 1)]
    if not pairs.any():
        return None
    cells = 100 * share[np.ix_(drawn, drawn)]
    np.fill_diagonal(cells, np.nan)
    title = "No pair of labels stands out"
    reading = "No two labels occur together more often than expected by chance."
    strongest = c.strongest(drawn)
    if strongest is not None:
        a, b = strongest
        title = f"Strongest pair: {c.labels[a]} and {c.labels[b]}"
        reading = (
            f"Of the {counted(int(c.photos[a]), 'photo')} with {c.labels[a]}, {both[a, b]:,} "
            f"({percent(share[a, b], 1)}) also {'has' if both[a, b] == 1 else 'have'} {c.labels[b]}. Among all photos "
            f"{percent(c.photos[b], c.n - c.unknown[b])} have {c.labels[b]}. Conversely, {percent(share[b, a], 1)} of "
            f"the photos with {c.labels[b]} have {c.labels[a]}."
        )
    never = int((pairs == 0).sum())
    if never:
        reading += f" {agreed(never, 'never occurs', 'never occur', 'pair')} on the same photo."
    if c.unknown.any():
        reading += " Percentages count only photos for which both labels are known."
    if len(occur) > len(drawn):
        reading += f" The chart shows the {len(drawn)} most frequent labels."
    names = names_of(c.labels, drawn)
    figure = heatmap(cells, names, names, "also", "with")
    return Chart.of("together", figure, title, reading)


def of_shapes(m: Measurements) -> list[Chart]:
    """Chart the sizes and aspect ratios of the readable photos. At least one photo must be readable."""
    record = m.records[m.readable]
    width, height = record["width"].astype(float), record["height"].astype(float)
    return [_sizes(width, height), _aspects(width / height)]


def _sizes(width: NDArray[np.float64], height: NDArray[np.float64]) -> Chart:
    n, area = len(width), width * height
    each, photos = np.unique(width * 2**31 + height, return_counts=True)
    most = int(photos.max())
    w, h = divmod(each[photos.argmax()], 2**31)
    if len(each) == 1:
        title = f"{'The photo has' if n == 1 else 'All photos have'} {w:,.0f}×{h:,.0f} pixels"
        reading = f"{counted(n, 'photo')}, one size."
    else:
        least, largest = ((width[i], height[i]) for i in (area.argmin(), area.argmax()))
        title = f"From {least[0]:,.0f}×{least[1]:,.0f} to {largest[0]:,.0f}×{largest[1]:,.0f} pixels"
        common = f"The most frequent size is {w:,.0f}×{h:,.0f} ({counted(most, 'photo')}, {percent(most, n)})."
        reading = common if most > 1 else "No two photos have the same size."
    small = int((np.minimum(width, height) < MODEL_SIDE).sum())
    if small:
        reading += (
            f" {agreed(small, 'has', 'have')} a side under {MODEL_SIDE} pixels, the default image size of models."
        )
    return Chart.of("sizes", figures.sizes(width, height), title, reading)


def _aspects(aspect: NDArray[np.float64]) -> Chart:
    n = len(aspect)
    square = int((np.abs(np.log2(aspect)) < 0.03).sum())
    wide, tall = int((np.log2(aspect) >= 0.03).sum()), int((np.log2(aspect) <= -0.03).sum())
    shapes = {"landscape": wide, "portrait": tall, "square": square}
    commonest = max(shapes, key=lambda shape: shapes[shape])
    reading = joined([f"{count:,} {shape} ({percent(count, n)})" for shape, count in shapes.items()]) + "."
    if wide:
        reading += f" The widest is {ratio(aspect.max())} times as wide as it is high."
    if tall:
        reading += f" The tallest is {ratio(1 / aspect.min())} times as high as it is wide."
    title = (
        f"{'All' if shapes[commonest] == n else 'Mostly'} {commonest}" if 2 * shapes[commonest] > n else "Mixed shapes"
    )
    return Chart.of("aspects", figures.aspect_ratios(aspect), title, reading)


def _brightness(values: NDArray[np.float64]) -> Chart:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    dark, bright = int((values < DARK).sum()), int((values > BRIGHT).sum())
    spread = f"Half of the photos lie between {low:.2f} and {high:.2f}. " if len(values) > 1 else ""
    reading = (
        f"{spread}{agreed(dark, 'is', 'are')} darker than {DARK} and {bright:,} brighter than {BRIGHT} (dashed lines)."
    )
    figure = figures.brightness(values, DARK, BRIGHT)
    return Chart.of("brightness", figure, f"Median brightness: {middle:.2f}", reading)


def of_light(m: Measurements) -> list[Chart]:
    """Chart brightness, channel means, and channel histograms before and after normalization."""
    names = ("red", "green", "blue")
    record = m.records
    mean = np.array([record[name].mean(where=m.readable, dtype=float) for name in names])
    square = np.array([record[f"{name}_square"].mean(where=m.readable, dtype=float) for name in names])
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    pixels = m.histograms.sum(axis=0, dtype=np.int64, where=m.readable[:, None, None])
    shares = pixels / pixels.sum(axis=1, keepdims=True)
    return [
        _brightness(record["brightness"][m.readable].astype(float)),
        _channels(names, mean, deviation),
        *_normalisation(shares, mean, deviation),
    ]


def _channels(names: tuple[str, ...], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> Chart:
    values = joined([f"{name} {mu:.3f} ± {sd:.3f}" for name, mu, sd in zip(names, mean, deviation, strict=True)])
    off = mean - MEAN
    far, brightest = int(np.abs(off).argmax()), int(mean.argmax())
    title = (
        "No channel stands out" if np.ptp(mean) < 0.02 else f"{names[brightest].capitalize()} is the brightest channel"
    )
    reading = (
        f"Mean ± standard deviation: {values}. The difference from ImageNet (hollow) is largest for {names[far]} "
        f"({_signed(off[far])})."
    )
    return Chart.of("channels", figures.channels(mean, deviation, MEAN, DEVIATION), title, reading)


def _normalisation(
    shares: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> list[Chart]:
    """Chart the channel histograms before and after the transfer model's normalization."""
    edges = np.tile(np.arange(BINS + 1) / BINS, (3, 1))
    after, spread = (mean - MEAN) / DEVIATION, deviation / DEVIATION
    normal = (edges - MEAN[:, None]) / DEVIATION[:, None]
    black, white = shares[:, 0].mean(), shares[:, -1].mean()
    many = "many" if black + white > 0.1 else "few"
    near = "close to" if np.abs(after).max() < 0.3 and np.abs(spread - 1).max() < 0.35 else "far from"
    return [
        Chart.of(
            "before",
            figures.channel_histograms(shares, 255 * edges, "pixel value (0 to 255)"),
            f"Before normalization: {many} black or white values",
            f"{percent(black, 1)} of the values are in the darkest of {BINS} bins and {percent(white, 1)} in the "
            "brightest.",
        ),
        Chart.of(
            "after",
            figures.channel_histograms(shares, normal, "(value − ImageNet mean) ÷ ImageNet standard deviation"),
            "After normalization, as the transfer model sees it",
            f"Red, green and blue have means of {_three(after)} and standard deviations of {_three(spread)}, {near} "
            "the 0 and 1 of the pretraining data.",
        ),
    ]


def _three(values: NDArray[np.float64]) -> str:
    return joined([f"{value:.2f}".replace("-", "−") for value in values])


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
