"""Sphinx's configuration: `make docs` builds the pages in this folder, with warnings as errors."""

from __future__ import annotations

import logging
import re
import sys
from importlib import import_module
from pathlib import Path

from sphinx.ext.autodoc.mock import mock

_ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT))

project = "lightning-sagemaker"
author = "the developers of lightning-sagemaker"
release = re.findall(r'^version = "(.+)"', (_ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[0]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "lightning-sagemaker"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_heading_anchors = 4  # as on GitHub: every heading is an anchor

# Names from these are enough for the pages, so that building them needs neither torch nor Lightning.
autodoc_mock_imports = ["filelock", "torch"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# What is not ours has no page here, and there is no network to ask for those of others.
nitpick_ignore_regex = [(r"py:.*", r"(?!lightning_sagemaker\b).*|lightning_sagemaker\.locking\.once\.T")]
# The report of the benchmarks may be absent; Sphinx has no name by which this warning could be left out.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(lambda it: getattr(it, "subtype", "") != "empty_glob")

# The strategies are made for the distribution that is imported, and here is none: what all of them have is one mixin.
with mock(autodoc_mock_imports):
    _package = import_module("lightning_sagemaker")
    _mixin = import_module("lightning_sagemaker.smddp.strategies")._SMDDPMixin  # noqa: SLF001 - see above
for _name in ("SMDDPStrategy", "SMDDPFSDPStrategy"):
    _members = {"__doc__": _mixin.__doc__, "__module__": _package.__name__}
    setattr(_package, _name, type(_name, (_mixin,), _members))
