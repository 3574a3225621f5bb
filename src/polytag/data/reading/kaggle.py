"""Download Kaggle datasets with kagglehub and choose what to read. Sources are named ``kaggle:OWNER/NAME[/FILE]``.

kagglehub stores downloads in its own cache. A cached copy is used without network access.
"""

from contextlib import suppress
from pathlib import Path

from polytag.data.reading.forms import describe, readable
from polytag.errors import DataError, SettingsError, listed

SCHEME = "kaggle:"


def fetch(source: str) -> tuple[Path, Path, str]:
    """Download a dataset, or use the cached copy.

    Args:
        source: ``kaggle:OWNER/NAME``. Add ``/FILE`` to read a specific file or folder in the dataset.

    Returns:
        The path to read, the folder of the whole dataset, and a note about where the data came from.

    Raises:
        DataError: kagglehub is not installed, Kaggle cannot be reached or does not have the dataset, or the dataset
            does not contain exactly one source of labels that polytag can read.
        SettingsError: the source does not name a dataset.
    """
    owner, _, rest = source.removeprefix(SCHEME).partition("/")
    name, _, inside = rest.partition("/")
    if not owner.strip() or not name.strip():
        raise SettingsError(f"'{source}' does not name a dataset: expected kaggle:OWNER/NAME or kaggle:OWNER/NAME/FILE")
    folder, note = _download(f"{owner}/{name}")
    if inside:
        chosen = folder / inside
        if not chosen.resolve().is_relative_to(folder.resolve()) or not chosen.exists():
            raise DataError(f"{SCHEME}{owner}/{name} has no '{inside}'; it contains {describe(folder)}")
        return chosen, folder, note
    found = readable(folder)
    if len(found) == 1:
        return found[0], folder, note
    if not found:
        raise DataError(f"{SCHEME}{owner}/{name} is not in a format that polytag reads; it contains {describe(folder)}")
    names = [one.relative_to(folder).as_posix() for one in found]
    raise DataError(
        f"{SCHEME}{owner}/{name} contains several data sets: name one, as in "
        f"{SCHEME}{owner}/{name}/{names[0]} (there are {listed(names, 20)})"
    )


def _download(handle: str) -> tuple[Path, str]:
    try:
        import kagglehub
    except ImportError:
        raise DataError("reading from Kaggle needs kagglehub: pip install 'polytag[kaggle]'") from None
    import requests  # a dependency of kagglehub

    try:
        folder = Path(kagglehub.dataset_download(handle))
    except requests.exceptions.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise DataError(
            f"Kaggle refuses to provide {handle} ({status}): check the name; private datasets need a login"
        ) from None
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
        kept = _kept(handle)
        if kept is None:
            raise DataError(
                f"Kaggle cannot be reached and {handle} was not downloaded before: connect, or name a file or folder"
            ) from None
        return kept, f"Kaggle cannot be reached: using the earlier download of {handle} in {kept}"
    except Exception as error:
        # kagglehub passes on any error that occurs while it parses, unpacks or writes files.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"kagglehub cannot download {handle}: {reason}") from None
    return folder, f"{handle} from Kaggle, in {folder}"


def _kept(handle: str) -> Path | None:
    """Return the newest complete download.

    kagglehub itself cannot find it offline, because it needs network access to look up the version number.
    """
    import kagglehub
    import kagglehub.config
    import requests

    folder = Path(kagglehub.config.get_cache_folder(), "datasets", handle, "versions")
    versions = sorted((int(path.name) for path in folder.glob("*") if path.name.isdigit()), reverse=True)
    for version in versions:
        with suppress(requests.exceptions.RequestException):
            return Path(kagglehub.dataset_download(f"{handle}/versions/{version}"))
    return None
