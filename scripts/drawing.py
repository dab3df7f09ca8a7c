"""Boxes, arrows and texts as SVG, readable on light and on dark pages; the scripts that make pictures use it."""

from __future__ import annotations

from xml.sax.saxutils import escape

STYLE = """
text { font: 14px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; white-space: pre }
.dim { fill: #59636e }
.strong { font-weight: 600 }
.middle { text-anchor: middle }
rect { fill: #f6f8fa; stroke: #818b98 }
.page { fill: #ffffff; stroke: none }
.rank { fill: #ddf4ff; stroke: #0969da }
.bad { fill: #ffebe9; stroke: #cf222e }
.good { fill: #dafbe1; stroke: #1a7f37 }
line, path { stroke: #59636e; stroke-width: 1.5; fill: none }
.cut { stroke: #cf222e; stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .dim { fill: #9198a1 }
  rect { fill: #161b22; stroke: #656c76 }
  .page { fill: #0d1117 }
  .rank { fill: #0c2d6b; stroke: #4493f8 }
  .bad { fill: #67060c; stroke: #f85149 }
  .good { fill: #04260f; stroke: #3fb950 }
  line, path { stroke: #9198a1 }
  .cut { stroke: #f85149 }
}
"""
_ARROW = '<path d="M0 0L8 4L0 8"/>'
_SIZE = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"'
_END = f'<marker id="end" {_SIZE}>{_ARROW}</marker>'


class Drawing:
    """A picture that grows by what is put into it.

    Args:
        width: In pixels.
        height: In pixels.
        title: What it shows, for those who cannot see it.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        label = escape(title)
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">',
            f"<title>{label}</title>\n<style>{STYLE}</style>\n<defs>{_END}</defs>",
            f'<rect class="page" width="{width}" height="{height}" rx="8"/>',
        ]

    def box(self, x: int, y: int, width: int, height: int, kind: str = "") -> None:
        """A rectangle; kinds are ``rank``, ``good`` and ``bad``."""
        self._parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="{kind}"/>')

    def text(self, x: int, y: int, text: str, kind: str = "") -> None:
        """A line of text; kinds are ``dim``, ``strong``, ``middle`` and ``code``, or several of them."""
        self._parts.append(f'<text x="{x}" y="{y}" class="{kind}">{escape(text)}</text>')

    def arrow(self, x: int, y: int, to_x: int, to_y: int, kind: str = "") -> None:
        """An arrow; of the kind ``cut`` where nothing gets through."""
        self._parts.append(f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" marker-end="url(#end)" class="{kind}"/>')

    def line(self, x: int, y: int, to_x: int, to_y: int, kind: str = "") -> None:
        """A line without a head; of the kind ``cut`` it is dashed."""
        self._parts.append(f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" class="{kind}"/>')

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])
