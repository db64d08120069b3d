"""Print tables from the files in results; --write puts them into README and documentation.

python benchmarks/table.py [--write] [--check]

--check fails if a page, of the guide or the README, says anything else. A table is found by its
head; a sentence is the paragraph below a comment that names it, <!-- figures: NAME -->.
"""

import argparse
import re
import sys
import textwrap

import learned_tables
import proven_tables
from cells import RESULTS

ROOT = RESULTS.parents[1]
MARK = "<!-- figures: {} -->"


def said(function):
    """Return the paragraph that a function makes, below its mark."""
    # No break within code, a link or its text.
    kept = re.sub(r"`[^`]*`|\[[^]]*\]\([^)]*\)", lambda m: m[0].replace(" ", "\0"), function())
    lines = textwrap.wrap(kept, 104, break_long_words=False, break_on_hyphens=False)
    return "\n".join([MARK.format(function.__name__), *lines]).replace("\0", " ")


def pages():
    """Return what each page shows of the results."""
    learned, proven = learned_tables, proven_tables
    small, others = proven.front()
    return {
        "README.md": [proven.overview(), proven.violations()],
        "docs/measurements.md": [
            *(learned.families(), learned.series(), learned.batches(), learned.singly()),
            *(learned.precisions(), said(learned.files_and_memory), learned.recipe()),
            *(learned.budget(), said(learned.steps), learned.paper(), said(learned.patterns)),
            *(proven.inverses(), proven.prices(), proven.solves(), proven.families()),
            *(said(proven.unseen_halves), proven.streams(), proven.regions(), proven.slices()),
        ],
        "docs/guide/which_tool.md": [
            *(learned.series_by_order(), proven.inverses_by_order(), proven.solves_by_order()),
            learned.times_by_order(),
        ],
        "docs/guide/certificates.md": [
            small,
            others,
            proven.solutions(),
            proven.slices_in_short(),
            proven.prices_by_family(),
        ],
        "docs/guide/scale.md": [said(proven.file_of_many)],
    }


def rewritten(text, block):
    """Return text with the block, a table or a paragraph, in place of the one of the same head."""
    is_table = block.startswith("|")
    head = "".join(block.splitlines(keepends=True)[: 2 if is_table else 1])
    before, found, after = text.partition(head)
    if not found:
        return text
    rest = after.splitlines(keepends=True)
    ends = (k for k, line in enumerate(rest) if not (line[0] == "|" if is_table else line.strip()))
    return before + block + "\n" + "".join(rest[next(ends, len(rest)) :])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put them where they belong")
    parser.add_argument("--check", action="store_true", help="fail if pages have others")
    options = parser.parse_args()
    for page, blocks in pages().items():
        if not options.write and not options.check:
            print("\n\n".join([f"{page}:", *blocks, ""]))
            continue
        text = before = (ROOT / page).read_text(encoding="utf-8")
        for block in blocks:
            text = rewritten(text, block)
        if missing := [block.splitlines()[0] for block in blocks if block not in text]:
            sys.exit(f"{page} has no place for {', '.join(missing)}")
        if text.count(MARK[:12]) != sum(block.startswith(MARK[:12]) for block in blocks):
            sys.exit(f"{page} has a mark of figures that nothing is made for")
        if options.write:
            (ROOT / page).write_text(text, encoding="utf-8")
        elif text != before:
            sys.exit(
                f"{page} has other figures than the results: python benchmarks/table.py --write"
            )


if __name__ == "__main__":
    main()
