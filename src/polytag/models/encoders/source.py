"""Find the files of an encoder: an ONNX file, a folder, a repository of the Hugging Face hub, or a timm model."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from polytag.errors import SettingsError, WeightsError, raise_machine_error
from polytag.extras import require
from polytag.models.encoders.graph import external_names, load_graph
from polytag.models.encoders.preprocessing import FILES, read_json

HUB, TIMM = "hf:", "timm:"

VISION_MODELS = ("onnx/vision_model.onnx", "onnx/model.onnx", "vision_model.onnx", "model.onnx")
"""Usual places of the image encoder in a repository or folder, in the order in which they are tried."""

CONFIGURATION = (*FILES, "README.md")
"""Files that describe an encoder. The front matter of README.md contains the licence."""


OFFLINE_SECONDS = 120.0
"""Time after a failed connection in which files come from the cache only. huggingface_hub tries each file for 20 s."""


@dataclass(frozen=True)
class Source:
    """The files of an encoder.

    Attributes:
        name: name of the encoder, as given. It begins with ``hf:`` or ``timm:``, or it is a path.
        model: ONNX file.
        folder: folder with the configuration files.
        revision: commit of the repository, or "".
    """

    name: str
    model: Path
    folder: Path
    revision: str = ""

    @property
    def licence(self) -> str:
        """Licence that the files state, or ""."""
        config = read_json(self.folder / "config.json")
        stated = config.get("license") or (config.get("pretrained_cfg") or {}).get("license")
        return str(stated) if stated else stated_in(self.folder / "README.md", "licen[sc]e")

    @property
    def base(self) -> str:
        """Repository from which this one was made, as OWNER/REPO, or ""."""
        return stated_in(self.folder / "README.md", "base_model")


def is_encoder(name: str) -> bool:
    """Return whether a name refers to an ONNX encoder rather than to one of polytag's or Keras' backbones."""
    return name.startswith((HUB, TIMM)) or name.endswith(".onnx") or "/" in name or "\\" in name


def find_source(name: str) -> Source:
    """Find the files of an encoder.

    Args:
        name: path of an ONNX file, path of a folder, ``hf:OWNER/REPO``, ``hf:OWNER/REPO@REVISION`` or ``timm:NAME``.

    Raises:
        WeightsError: a file is missing.
        SettingsError: a package is missing, or the name is not valid.
    """
    if name.startswith(HUB):
        return _from_hub(name)
    if name.startswith(TIMM):
        from polytag.models.encoders.timm_export import exported

        folder = exported(name.removeprefix(TIMM))
        return Source(name, folder / "model.onnx", folder)
    path = Path(name).expanduser()
    if path.is_dir():
        model = next((path / place for place in VISION_MODELS if (path / place).is_file()), None)
        if model is None:
            raise WeightsError(f"{path} contains no encoder: expected {' or '.join(VISION_MODELS)}")
        return Source(name, model, path)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist: choose an ONNX file, a folder, hf:OWNER/REPO or timm:NAME")
    # In a repository, the ONNX files have a folder of their own.
    described = any((path.parent / file).is_file() for file in FILES)
    return Source(name, path, path.parent if described or path.parent.name != "onnx" else path.parent.parent)


def _from_hub(name: str) -> Source:
    hub = Hub(name)
    model = hub.model(VISION_MODELS)
    if model is None:
        raise WeightsError(
            f"{name} has no encoder in ONNX, or it cannot be downloaded: check the name and the connection "
            f"(expected {' or '.join(VISION_MODELS[:2])})"
        )
    configuration = [file for place in CONFIGURATION if (file := hub.file(place)) is not None]
    folder = model.parent.parent if model.parent.name == "onnx" else model.parent
    return Source(name, model, configuration[0].parent if configuration else folder, folder.name)


class Hub:
    """A repository of the Hugging Face hub. Files are downloaded once; without a connection, the cache is used.

    Args:
        name: ``hf:OWNER/REPO`` or ``hf:OWNER/REPO@REVISION``, with a branch, tag or commit.

    Raises:
        SettingsError: the name is not valid, or the package huggingface_hub is not installed.
    """

    _offline_until: ClassVar[float] = 0.0
    """Value of `time.monotonic` until which no connection is tried, because one has just failed."""

    def __init__(self, name: str):
        self.repository, _, revision = name.removeprefix(HUB).partition("@")
        self.revision = revision or None
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository):
            raise SettingsError(f"'{name}' is not a repository: write hf:OWNER/REPO or hf:OWNER/REPO@REVISION")
        require("huggingface_hub", "hub", "Downloading an encoder")

    def model(self, places: Sequence[str]) -> Path | None:
        """Return the local path of the first ONNX file that exists, or ``None``. Its weights are downloaded as well.

        Raises:
            WeightsError: the file is damaged, or its external weights cannot be downloaded.
        """
        place, found = next(((place, file) for place in places if (file := self.file(place))), ("", None))
        if found is None:
            return None
        for name in external_names(load_graph(found)):
            if self.file(place.rpartition("/")[0] + "/" * ("/" in place) + name) is None:
                raise WeightsError(
                    f"the weights {name} of {self.repository} cannot be downloaded: check the connection"
                )
        return found

    def file(self, place: str) -> Path | None:
        """Return the local path of a file, or ``None`` if the file does not exist or cannot be downloaded.

        Raises:
            WeightsError: the repository does not answer, and the file is not in the cache.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        if time.monotonic() < Hub._offline_until:
            return self._cached(place)[1]
        try:
            return Path(hf_hub_download(self.repository, place, revision=self.revision))
        except LocalEntryNotFoundError:  # there is no connection
            Hub._offline_until = time.monotonic() + OFFLINE_SECONDS
            return self._cached(place)[1]
        except EntryNotFoundError:
            return None
        except Exception as error:
            raise_machine_error(error)
            # Connections fail with exceptions of the HTTP library, which differs between versions of huggingface_hub.
            known, cached = self._cached(place)
            if known:
                return cached
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
            raise WeightsError(
                f"{self.repository} cannot be downloaded ({reason}): check the name and the connection"
            ) from None

    def _cached(self, place: str) -> tuple[bool, Path | None]:
        """Return whether the cache knows a file, and its local path if it was downloaded before."""
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(self.repository, place, revision=self.revision)
        return cached is not None, Path(cached) if isinstance(cached, str) else None

    def open(self, place: str, commit: str | None) -> Any:
        """Open a file of the repository, of which only what is read is downloaded.

        Raises:
            Exception: there is no such file, or no connection. The HTTP libraries raise many different exceptions.
        """
        from huggingface_hub import HfFileSystem

        return HfFileSystem().open(f"{self.repository}/{place}", "rb", revision=commit, block_size=1 << 18)


def stated_in(readme: Path, field: str) -> str:
    """Return the value of a field in the front matter of a README, the first one of a list, or "".

    Args:
        readme: file, which need not exist.
        field: name of the field, a regular expression.
    """
    if not readme.is_file():
        return ""
    front = re.match(r"---\s*\n(.*?)\n---", readme.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    value = rf"^{field}:(?:[ \t]*|[ \t]*\n[ \t]*-[ \t]+)[\"']?([\w.+/-]*[\w.+/])"
    found = re.search(value, front[1], re.MULTILINE) if front else None
    return found[1] if found else ""
