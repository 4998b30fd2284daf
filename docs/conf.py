"""Settings of the site: ``make docs`` writes it to ``build/docs``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from reference import write_reference

from dockreg_tx import __version__

project = "dockreg"
release = __version__
extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"dockreg {release}"
myst_heading_anchors = 3
# Pages point to files of the source, which are no pages.
suppress_warnings = ["myst.xref_missing"]

write_reference(Path(__file__).parent / "reference")
