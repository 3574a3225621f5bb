"""What explore's page shows: each picture of the data with a reading of it in words, made from the same numbers."""

import numpy as np
from numpy.typing import NDArray

from polytag.errors import counted
from polytag.exploring import figures
from polytag.exploring.counts import Counts
from polytag.exploring.figures import names_of, percent
from polytag.pages.figures import Chart, heatmap, room
from polytag.pages.text import joined
from polytag.photos.decode import IMAGENET_DEVIATION, IMAGENET_MEAN
from polytag.photos.measure import BINS, Measurements

LABELS_DRAWN, LABELS_IN_COLUMN = 60, 12
LABELS_IN_HEATMAP = 25
COMBINATIONS_DRAWN = 20

DARK, BRIGHT = 0.15, 0.85
"""Mean brightness beyond which a photo is counted as dark or bright."""

MODEL_SIDE = 224
"""Side at which models see photos by default, in pixels."""

MEAN, DEVIATION = np.array(IMAGENET_MEAN), np.array(IMAGENET_DEVIATION)
"""By which the transfer model normalises red, green and blue, on a scale from 0 to 1."""

MAPS, POINTS, LEAST_POINTS, NEIGHBOURS = 12, 2000, 30, 10
"""Labels that have a map of their own, photos on it at most and at least, and neighbours that are asked."""


def do(n: int, one: str, several: str, noun: str = "photo") -> str:
    """ "1 photo shows", "12 photos show"."""
    return f"{counted(n, noun)} {one if n == 1 else several}"


def of_all(c: Counts, photos: int) -> str:
    """ "580 of 2,000 photos (29 %)"."""
    return f"{photos:,} of {counted(c.n, 'photo')} ({percent(photos, c.n)})"


def times(ratio: float) -> str:
    """ "1.4", "3" or "32"."""
    return f"{ratio:,.0f}" if ratio >= 9.95 else f"{ratio:.1f}".removesuffix(".0")


def frequency(c: Counts) -> list[Chart]:
    """How common the labels are: one picture or two parts of one, with the same words."""
    drawn = c.order[:LABELS_DRAWN]
    columns = 1 if len(drawn) <= LABELS_IN_COLUMN else 2
    # The same room and scale for both parts, so that they may be compared.
    left, most = room(names_of(c.labels, drawn)), int((c.photos + c.unknown)[drawn].max())
    title, reading = _frequency_words(c)
    if len(c.labels) > len(drawn):
        reading += f" The {len(drawn)} commonest of {len(c.labels):,} labels are drawn."
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
    doubt = f" {percent(unknown, c.n * len(c.labels))} of all entries are unknown, drawn pale." if unknown else ""
    if not shown:
        return "No photo is known to show a label", f"{counted(len(c.labels), 'label')} and not one is there.{doubt}"
    first, last = shown[0], shown[-1]
    ratio = c.photos[first] / c.photos[last]
    reading = f"The label {c.labels[first]} is on {of_all(c, c.photos[first])}"
    if len(shown) == 1:
        title = f"The only label{'' if len(c.labels) == 1 else ' that occurs'} is {c.labels[first]}"
    elif ratio == 1:
        title = "All labels that occur are equally common"
        reading += (
            f", and so is each of the other {len(shown) - 1:,}" if len(shown) > 2 else f", as is {c.labels[last]}"
        )
    else:
        title = f"The commonest label is {c.labels[first]}, the rarest {c.labels[last]}"
        reading += f", {times(ratio)} times as often as {c.labels[last]} ({c.photos[last]:,})"
    never = [c.labels[j] for j in c.order if not c.photos[j]]
    rest = [*never[:5], f"{len(never) - 5:,} more"] if len(never) > 5 else never
    return title, f"{reading}.{f' No photo shows {joined(rest)}.' if never else ''}{doubt}"


def labels_per_photo(c: Counts) -> Chart:
    """How many labels the photos have."""
    one, none, most = int((c.per_photo == 1).sum()), int((c.per_photo == 0).sum()), int(c.per_photo.max())
    reading = (
        f"{do(one, 'shows', 'show')} exactly one label ({percent(one, c.n)}) and "
        f"{do(none, 'shows', 'show') if none else 'no photo shows'} none; the most is {counted(most, 'label')}."
    )
    if c.unknown.any():
        reading += " Only labels that are known to be there are counted."
    title = f"{c.per_photo.mean():.2f} labels on a photo, on average"
    return Chart.of("per-photo", figures.labels_per_photo(np.bincount(c.per_photo)), title, reading)


def combinations(c: Counts) -> Chart:
    """Which sets of labels the photos have."""
    found = c.combinations
    drawn, first = found[:COMBINATIONS_DRAWN], found[0]
    involved = [int(j) for j in c.order if any(j in combination.labels for combination in drawn)]
    once = sum(combination.photos == 1 for combination in found)
    reading = f"It makes up {of_all(c, first.photos)}."
    if len(found) > len(drawn):
        covered = percent(sum(combination.photos for combination in drawn), c.n)
        reading += f" The {len(drawn)} drawn of {len(found):,} combinations cover {covered} of the photos."
    else:
        reading += f" {do(len(found), 'occurs', 'occur', 'combination')} in all."
    if once and len(found) > 1:
        reading += f" {do(once, 'occurs', 'occur', 'combination')} only once."
    figure = figures.combinations(
        [[involved.index(j) for j in combination.labels] for combination in drawn],
        [combination.photos for combination in drawn],
        names_of(c.labels, involved),
    )
    return Chart.of("combinations", figure, f"The commonest combination is {c.name(first)}", reading)


def together(c: Counts) -> Chart | None:
    """Which labels occur together; ``None`` where no two do."""
    drawn = [int(j) for j in c.order[:LABELS_IN_HEATMAP] if c.photos[j]]
    occur = c.order[c.photos[c.order] > 0]
    both, share = c.together
    pairs = both[np.ix_(occur, occur)][np.triu_indices(len(occur), 1)]
    if not pairs.any():
        return None
    cells = 100 * share[np.ix_(drawn, drawn)]
    np.fill_diagonal(cells, np.nan)
    title = "No pair of labels stands out"
    reading = "No two labels occur together more often than their own shares would make them."
    strongest = c.strongest(drawn)
    if strongest is not None:
        a, b = strongest
        title = f"The strongest pair: {c.labels[a]} and {c.labels[b]}"
        reading = (
            f"Of the {counted(int(c.photos[a]), 'photo')} with {c.labels[a]} {both[a, b]:,} "
            f"({percent(share[a, b], 1)}) also {'shows' if both[a, b] == 1 else 'show'} {c.labels[b]}, which is on "
            f"{percent(c.photos[b], c.n - c.unknown[b])} of all photos; the other way round, "
            f"{percent(share[b, a], 1)} of the photos with {c.labels[b]} show {c.labels[a]}."
        )
    never = int((pairs == 0).sum())
    if never:
        reading += f" {do(never, 'never occurs', 'never occur', 'pair')} on the same photo."
    if c.unknown.any():
        reading += " Shares are of the photos where both labels are known."
    if len(occur) > len(drawn):
        reading += f" The {len(drawn)} commonest labels are drawn."
    names = names_of(c.labels, drawn)
    figure = heatmap(cells, names, names, "also", "with")
    return Chart.of("together", figure, title, reading)


def of_shapes(m: Measurements) -> list[Chart]:
    """Sizes and aspect ratios of the photos that can be read, at least one."""
    record = m.records[m.readable]
    width, height = record["width"].astype(float), record["height"].astype(float)
    return [_sizes(width, height), _aspects(width / height)]


def _sizes(width: NDArray[np.float64], height: NDArray[np.float64]) -> Chart:
    n, area = len(width), width * height
    each, photos = np.unique(np.column_stack([width, height]), axis=0, return_counts=True)
    most = int(photos.max())
    w, h = each[photos.argmax()]
    if len(each) == 1:
        title = f"{'The photo is' if n == 1 else 'All photos are'} {w:,.0f}×{h:,.0f} pixels"
        reading = f"{counted(n, 'photo')}, one size."
    else:
        least, largest = ((width[i], height[i]) for i in (area.argmin(), area.argmax()))
        title = f"From {least[0]:,.0f}×{least[1]:,.0f} to {largest[0]:,.0f}×{largest[1]:,.0f} pixels"
        common = f"The commonest size is {w:,.0f}×{h:,.0f} ({counted(most, 'photo')}, {percent(most, n)})."
        reading = common if most > 1 else "No two photos have the same size."
    small = int((np.minimum(width, height) < MODEL_SIDE).sum())
    reading += (
        f" {do(small, 'has', 'have')} a side shorter than {MODEL_SIDE} pixels, at which models see photos by default."
    )
    return Chart.of("sizes", figures.sizes(width, height), title, reading)


def _aspects(ratio: NDArray[np.float64]) -> Chart:
    n = len(ratio)
    square = int((np.abs(np.log2(ratio)) < 0.03).sum())
    wide, tall = int((np.log2(ratio) >= 0.03).sum()), int((np.log2(ratio) <= -0.03).sum())
    shapes = {"landscape": wide, "portrait": tall, "square": square}
    commonest = max(shapes, key=lambda shape: shapes[shape])
    told = joined([f"{count:,} {shape} ({percent(count, n)})" for shape, count in shapes.items()])
    extreme = []
    if wide:
        extreme.append(f"the widest is {times(ratio.max())} times as wide as high")
    if tall:
        extreme.append(f"the tallest {'is ' if not wide else ''}{times(1 / ratio.min())} times as high as wide")
    title = (
        f"{'All' if shapes[commonest] == n else 'Mostly'} {commonest}" if 2 * shapes[commonest] > n else "Mixed shapes"
    )
    return Chart.of(
        "aspects", figures.aspect_ratios(ratio), title, f"{told}{'; ' if extreme else ''}{', '.join(extreme)}."
    )


def _brightness(values: NDArray[np.float64]) -> Chart:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    dark, bright = int((values < DARK).sum()), int((values > BRIGHT).sum())
    spread = f"Half of the photos lie between {low:.2f} and {high:.2f}. " if len(values) > 1 else ""
    reading = f"{spread}{do(dark, 'is', 'are')} darker than {DARK} and {bright:,} brighter than {BRIGHT} (dashed)."
    figure = figures.brightness(values, DARK, BRIGHT)
    return Chart.of("brightness", figure, f"The median photo has a brightness of {middle:.2f}", reading)


def of_light(m: Measurements) -> list[Chart]:
    """Brightness, and mean, deviation and histograms of red, green and blue, before and after normalisation."""
    names = ("red", "green", "blue")
    record = m.records
    mean = np.array([record[name].mean(where=m.readable, dtype=float) for name in names])
    square = np.array([record[f"{name}_square"].mean(where=m.readable, dtype=float) for name in names])
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    pixels = m.histograms.sum(axis=0, dtype=np.int64, where=m.readable[:, None, None])
    shares = pixels / pixels.sum(axis=1, keepdims=True)

    told = joined([f"{name} {mu:.3f} ± {sd:.3f}" for name, mu, sd in zip(names, mean, deviation, strict=True)])
    off = mean - MEAN
    far = int(np.abs(off).argmax())
    brightest = int(mean.argmax())
    tint = (
        "No channel stands out" if np.ptp(mean) < 0.02 else f"{names[brightest].capitalize()} is the brightest channel"
    )
    theirs = f"{names[far]} is farthest from ImageNet's (hollow), by {_signed(off[far])}"

    edges = np.tile(np.arange(BINS + 1) / BINS, (3, 1))
    after, spread = off / DEVIATION, deviation / DEVIATION
    normal = (edges - MEAN[:, None]) / DEVIATION[:, None]
    black, white = shares[:, 0].mean(), shares[:, -1].mean()
    ends = percent(black, 1), percent(white, 1)
    lopsided = "Many values are black or white" if black + white > 0.1 else "Few values are black or white"
    return [
        _brightness(record["brightness"][m.readable].astype(float)),
        Chart.of(
            "channels",
            figures.channels(mean, deviation, MEAN, DEVIATION),
            tint,
            f"Mean ± standard deviation: {told}; {theirs}.",
        ),
        Chart.of(
            "before",
            figures.channel_histograms(shares, 255 * edges, "value of a pixel, 0 to 255"),
            f"Before normalisation: {lopsided[0].lower()}{lopsided[1:]}",
            f"{ends[0]} of the values lie in the darkest of {BINS} bins and {ends[1]} in the brightest.",
        ),
        Chart.of(
            "after",
            figures.channel_histograms(shares, normal, "(value − ImageNet's mean) ÷ ImageNet's deviation"),
            "After normalisation, as the transfer model sees it",
            f"Means {_three(after)} and deviations {_three(spread)} for red, green and blue: "
            f"{'near' if np.abs(after).max() < 0.3 and np.abs(spread - 1).max() < 0.35 else 'far from'} the 0 and 1 "
            "that it was pretrained on.",
        ),
    ]


def _three(values: NDArray[np.float64]) -> str:
    return joined([f"{value:.2f}".replace("-", "−") for value in values])


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def embedding_maps(c: Counts, embeddings: NDArray[np.float32], seed: int) -> tuple[str, list[Chart]]:
    """Maps on which photos that look alike to the network lie together, one for each of the commonest labels.

    Args:
        c: of the same photos.
        embeddings: float32 (n, d); rows of NaN are left out.
        seed: of the choice of photos and of the layout.

    Returns:
        What all maps tell together, and the maps; none where there are too few photos or labels.
    """
    embedded = np.flatnonzero(np.isfinite(embeddings[:, 0]))
    rows = np.sort(np.random.default_rng(seed).permutation(embedded)[:POINTS])
    labels = [int(j) for j in c.order[:MAPS] if c.present[rows, j].any()]
    if len(rows) < LEAST_POINTS or not labels:
        wanted = f"A map needs {LEAST_POINTS} photos that can be read, some of them with a label"
        return f"{wanted}: there are {len(rows):,} and {'some' if labels else 'none'} has one.", []
    chosen = np.asarray(embeddings[rows], np.float32)
    if not np.ptp(chosen, axis=0).any():
        return "There is no map, since all photos look the same to the network.", []
    points, neighbours = _laid_out(chosen, seed)
    charts, rises = [], {}
    for j in labels:
        shown = c.present[rows, j]
        # Of neighbours that were chosen by chance the label's usual share would show it.
        near, usual = float(shown[neighbours[shown]].mean()), float(shown.mean())
        rises[j] = near - usual
        reading = f"It is on {percent(near, 1)} of their {NEIGHBOURS} nearest photos and on {percent(usual, 1)} of all."
        charts.append(Chart.of(f"map{j}", figures.embedding_map(points, shown), c.labels[j], reading))
    closest, loosest = max(rises, key=lambda j: rises[j]), min(rises, key=lambda j: rises[j])
    told = f"Photos with {c.labels[closest]} keep most to themselves"
    if rises[closest] > rises[loosest]:
        told += f", those with {c.labels[loosest]} least"
    drawn = f"{counted(len(rows), 'photo')}{' drawn at random' if len(rows) < len(embedded) else ''}"
    which = f"the {len(labels)} commonest labels" if len(labels) < len(c.labels) else f"{counted(len(labels), 'label')}"
    return f"{told}. On the maps: {drawn}, {which}.", charts


def _laid_out(embeddings: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Places (n, 2) about the origin by t-SNE (van der Maaten & Hinton, JMLR 2008), and the nearest (n, 10) rows."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    n, d = embeddings.shape
    # On one thread the sums, and so the maps, are the same on every machine.
    with threadpool_limits(1):
        reduced = PCA(min(50, n, d), random_state=seed).fit_transform(embeddings)
        neighbours = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(reduced).kneighbors(return_distance=False)
        perplexity = min(30.0, (n - 1) / 3)
        layout = TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=seed)
        places = layout.fit_transform(reduced)
    return places - places.mean(axis=0), neighbours
