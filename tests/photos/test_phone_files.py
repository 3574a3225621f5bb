"""Every file of a phone is read, or counted by its kind."""

import os
from collections import Counter
from pathlib import Path

from phone_files import DAMAGED, OTHERS, PHOTOS, write_phone_files

from polytag.errors import ImageError
from polytag.photos.decode import decode_many
from polytag.photos.kinds import is_photo, left_out


def test_every_file_is_a_photo_or_counted(tmp_path: Path) -> None:
    write_phone_files(tmp_path)
    paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(tmp_path) for name in names)
    skipped: Counter[str] = Counter()
    photos = [path for path in paths if is_photo(path, skipped)]
    assert len(paths) == PHOTOS + OTHERS + DAMAGED == 40
    assert left_out(skipped) == ("14 files left out: 5 videos, 4 sidecars, 3 camera raw files, 2 text files")
    found = list(decode_many(photos, 32))
    reasons = {
        os.path.basename(p): str(one) for p, one in zip(photos, found, strict=True) if isinstance(one, ImageError)
    }
    assert reasons == {
        "empty.jpg": "the file is empty",
        "hidden raw.tif": "a camera raw file: export it as JPEG or TIFF",
    }
    assert sum(not isinstance(one, ImageError) for one in found) == PHOTOS
