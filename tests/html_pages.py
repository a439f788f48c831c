"""HTML read into a tree by the standard library, for tests; void elements and all."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

__all__ = ["Element", "parsed"]

VOID = {"meta", "link", "img", "br"}
# cells and rows may be left open: the next one, or the end of what they are in, closes them
CELLS, TABLE = {"td", "th"}, {"thead", "tbody", "table"}
BEGUN = {"td": CELLS, "th": CELLS, "tr": CELLS | {"tr"}}  # what the start of each closes
ENDED = {"tr": CELLS} | dict.fromkeys(TABLE, CELLS | {"tr"})  # and its end


@dataclass
class Element:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Element | str"] = field(default_factory=list)

    def all(self, *tags: str) -> Iterator["Element"]:
        """Those below with one of these tags (none given: all), in the document's order."""
        for child in self.children:
            if isinstance(child, Element):
                if not tags or child.tag in tags:
                    yield child
                yield from child.all(*tags)

    def one(self, tag: str) -> "Element":
        return next(self.all(tag))

    @property
    def text(self) -> str:
        """As it is read aloud, but without what is for those alone who cannot see."""
        parts = (
            child if isinstance(child, str) else child.text
            for child in self.children
            if isinstance(child, str) or child.attributes.get("class") != "unseen"
        )
        return " ".join("".join(parts).split())


def parsed(page: str) -> Element:
    """A tag that is closed out of turn is an AssertionError."""
    root = Element("")
    path = [root]

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            while path[-1].tag in BEGUN.get(tag, ()):
                path.pop()
            element = Element(tag, {name: value or "" for name, value in attrs})
            path[-1].children.append(element)
            if tag not in VOID:
                path.append(element)

        def handle_endtag(self, tag: str) -> None:
            while path[-1].tag in ENDED.get(tag, ()):
                path.pop()
            assert path.pop().tag == tag

        def handle_data(self, data: str) -> None:
            path[-1].children.append(data)

    Reader().feed(page)
    assert path == [root]
    return root
