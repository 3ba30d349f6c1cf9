"""Every link and file that the documents name exists, and the index names every page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
MAX_README = 200  # lines


def prose(page: Path) -> str:
    """Return the text of a page without code blocks and code spans, which contain no links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def links(page: Path) -> list[str]:
    """Return the targets of all links and pictures that lead to a file or a heading."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return set(map(anchor, re.findall(r"^#+ (.+)$", text, re.MULTILINE)))


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for target in links(page):
        name, _, fragment = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (fragment and fragment not in anchors(file)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# What doctor can't know\n\n## Libreswan 4.x with 5.x\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n\n"
        "[a](other.md#what-doctor-cant-know) [b](other.md#libreswan-4x-with-5x) [c](#here)\n"
        "[d](other.md#nowhere) ![e](missing.svg) [f](https://example.org) [g](#there)\n"
        "`[h](code.md)`\n\n```\n# There\n[i](code.md)\n```\n"
    )
    assert broken(page) == ["other.md#nowhere", "missing.svg", "#there"]


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    assert set(PAGES) - linked - {index, ROOT / "CHANGELOG.md"} == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/house.md"])
def test_every_module_that_a_page_names_exists(page: str) -> None:
    modules = {f"/{path.relative_to(ROOT)}" for path in ROOT.glob("[a-z]*/**/*.py")}
    named = re.findall(r"`([a-z_/]+\.py)`", (ROOT / page).read_text())
    assert named
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in modules)] == []
