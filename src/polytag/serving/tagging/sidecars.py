"""Labels beside a photo, as XMP sidecar files that photo managers read; the photo itself is never changed.

``photo.jpg`` gets ``photo.jpg.xmp``, which digiKam, darktable, Immich and PhotoPrism look for. The labels stand
in ``dc:subject``, which the IPTC's photo metadata standard maps its keywords to.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from polytag.errors import SettingsError
from polytag.files import write_atomically

TOOLKIT = "polytag"
"""Who wrote a sidecar, as it says in its first line."""

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

PACKET = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="{toolkit}">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
   <dc:subject>
    <rdf:Bag>
{items}    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""


def write_sidecar(photo: str, labels: Sequence[str]) -> bool:
    """Write the labels of a photo beside it.

    Args:
        photo: its file.
        labels: its keywords; where there are none, a sidecar is written only to replace an earlier one.

    Returns:
        Whether the sidecar says now what it should. A sidecar that another program wrote is left as it is.

    Raises:
        SettingsError: it cannot be written, or an earlier one cannot be read.
    """
    path = Path(f"{photo}.xmp")
    try:
        earlier = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror})") from None
    if earlier is not None:
        if f'x:xmptk="{TOOLKIT}"' not in earlier[:500]:
            return False
    elif not labels:
        return True
    items = "".join(f"     <rdf:li>{escape(NOT_IN_XML.sub('�', label))}</rdf:li>\n" for label in labels)
    with write_atomically(path) as file:
        file.write(PACKET.format(toolkit=TOOLKIT, items=items))
    return True
