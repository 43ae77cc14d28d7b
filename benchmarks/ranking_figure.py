"""Draws how often the right photo is among the first few, as bars of two rankings, for a page in docs/."""

from __future__ import annotations

WIDTH, BAR, GAP, TOP, LEFT, FULL = 640, 18, 22, 64, 150, 400

STYLE = """
    text { fill: #1f2328 }
    .note { fill: #57606a; font-size: 13px }
    .score { fill: #afb8c1 }
    .corrected { fill: #0969da }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .note { fill: #9da7b1 }
      .score { fill: #57606a }
      .corrected { fill: #58a6ff }
    }
"""


def ranking_figure(images: int, recalls: dict[int, tuple[float, float]]) -> str:
    """An SVG that is legible on light and dark pages. `recalls`, 0 to 1, of score and corrected score, by k."""
    said = "; ".join(
        f"among the first {k}: {score:.1%} and {corrected:.1%}"
        for k, (score, corrected) in recalls.items()
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + len(recalls) * (2 * BAR + GAP)}" '
        'role="img" aria-labelledby="title description" '
        'font-family="-apple-system, \'Segoe UI\', Helvetica, Arial, sans-serif" font-size="14">',
        '  <title id="title">The right photo is found by the score, and by the corrected score</title>',
        f'  <desc id="description">Of {images:,} photos, {said}.</desc>',
        f"  <style>{STYLE}  </style>",
        *_key(images),
    ]
    for row, (k, values) in enumerate(recalls.items()):
        top = TOP + row * (2 * BAR + GAP)
        name = "the first" if k == 1 else f"among the first {k}"
        parts.append(f'  <text x="{LEFT - 12}" y="{top + BAR + 5}" text-anchor="end">{name}</text>')
        for at, (kind, value) in enumerate(zip(("score", "corrected"), values, strict=True)):
            y, width = top + at * BAR, value * FULL
            parts += [
                f'  <rect class="{kind}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}"/>',
                f'  <text class="note" x="{LEFT + width + 8:.1f}" y="{y + 13}">{value:.1%}</text>',
            ]
    return "\n".join([*parts, "</svg>", ""])


def _key(images: int) -> list[str]:
    return [
        f'  <text x="{LEFT}" y="20">The photo of a caption is, of {images:,} photos</text>',
        f'  <rect class="score" x="{LEFT}" y="34" width="12" height="12"/>',
        f'  <text class="note" x="{LEFT + 18}" y="45">by the score</text>',
        f'  <rect class="corrected" x="{LEFT + 130}" y="34" width="12" height="12"/>',
        f'  <text class="note" x="{LEFT + 148}" y="45">by the corrected score</text>',
    ]
