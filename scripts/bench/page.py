"""A section of docs/benchmarks.md, replaced as a whole each time its benchmark is run."""

from __future__ import annotations

from pathlib import Path


def put(docs: Path, name: str, section: str) -> None:
    """Write the section of that name; the rest of the page stays as it is."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    docs.mkdir(parents=True, exist_ok=True)
    page = docs / "benchmarks.md"
    text = page.read_text() if page.exists() else "# Benchmarks\n"
    whole = f"{begin}\n{section.strip()}\n\n{end}"
    if begin in text and end in text:
        before, _, rest = text.partition(begin)
        text = f"{before}{whole}{rest.partition(end)[2]}"
    else:
        text = f"{text.rstrip()}\n\n{whole}\n"
    page.write_text(text)
