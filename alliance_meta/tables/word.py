"""A page of headings, words, tables and figures as a Word file: real headings, captions, lists and editable tables."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docx.document import Document as WordDocument
    from docx.oxml.xmlchemy import BaseOxmlElement
    from docx.styles.style import ParagraphStyle
    from docx.text.paragraph import Paragraph

FONT, MONO = "Times New Roman", "Courier New"
# Sizes in points; the margins of the page in millimetres.
BODY, SMALL, TINY = 11.0, 9.0, 8.0
MARGIN, TEXT_WIDTH, TEXT_HEIGHT = 22.0, 166.0, 225.0
# Of table text, and of the space around it.
MM_PER_CHARACTER, PADDING = 1.65, 2.6
TWIPS_PER_MM = 56.7
HEAD = "<w:rPr><w:b/></w:rPr>"
RULED = '<w:tcBorders><w:bottom w:val="single" w:sz="4" w:space="0" w:color="000000"/></w:tcBorders>'
RULE = '<w:{} w:val="single" w:sz="8" w:space="0" w:color="000000"/>'
TABLE = (
    '<w:tblPr><w:tblW w:w="{}" w:type="dxa"/><w:tblBorders>'
    + RULE.format("top")
    + RULE.format("bottom")
    + '</w:tblBorders><w:tblLayout w:type="fixed"/><w:tblCellMar><w:left w:w="60" w:type="dxa"/>'
    '<w:right w:w="60" w:type="dxa"/></w:tblCellMar></w:tblPr>'
)
HARD = "\N{NO-BREAK SPACE}"
GROUND, EDGE = "FFF6DD", "7A5200"
# A file holds no clock: this stands for every time in it.
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)

Run = Mapping[str, str]


def word_file(view: Mapping[str, Any], figures: Mapping[str, Sequence[bytes]]) -> bytes:
    """Return the Word file of a page; the same content gives the same bytes.

    `view` is that of `typeset`; `figures` are the pages of each figure as PNG.
    """
    import docx

    document, words = docx.Document(), view["words"]
    _prepare(document, view)
    document.add_paragraph(view["title"], style="Title")
    if view["subtitle"]:
        document.add_paragraph(view["subtitle"], style="Subtitle")
    if view.get("abstract"):
        document.add_heading(words["abstract"], 1)
        for part in view["abstract"]:
            _part(document, part)
    _cautions(document, view["cautions"], words["cautions"])
    supplement = False
    for section in view["sections"]:
        if section.get("supplement") and not supplement:
            supplement = True
            document.add_heading(words["supplement"], 1).paragraph_format.page_break_before = True
        document.add_heading(section["heading"], 2 if supplement else 1)
        for block in section["blocks"]:
            _block(document, block, figures, page=words["page"], deeper=supplement)
    return _same_bytes(document)


def _prepare(document: WordDocument, view: Mapping[str, Any]) -> None:
    """Set the page, the styles, and what the file says of itself."""
    from docx.enum.style import WD_STYLE_TYPE
    from docx.oxml.ns import qn
    from docx.shared import Mm, Pt, RGBColor

    page = document.sections[0]
    page.page_width, page.page_height = Mm(210), Mm(297)
    page.left_margin = page.right_margin = page.top_margin = page.bottom_margin = Mm(MARGIN)
    styles = document.styles
    sizes = {
        "Normal": BODY,
        "Title": 20,
        "Subtitle": 12,
        "Heading 1": 15,
        "Heading 2": 12.5,
        "Heading 3": 11.5,
        "Caption": SMALL,
    }
    for name, size in sizes.items():
        style = styles[name]
        _font(style, FONT, size)
        style.font.color.rgb = RGBColor(0, 0, 0)
    for name, font, size in (("Table Text", FONT, SMALL), ("Note", FONT, TINY), ("Code", MONO, TINY)):
        style = styles.add_style(name, WD_STYLE_TYPE.PARAGRAPH)
        style.base_style = styles["Normal"]
        _font(style, font, size)
        style.paragraph_format.space_after = Pt(0 if name == "Code" else 2)
    # As much above as below, so that the first row stands clear of the rule over it.
    rows = styles["Table Text"].paragraph_format
    rows.space_before = rows.space_after = Pt(1)
    styles["Normal"].paragraph_format.space_after = Pt(6)
    styles["Caption"].paragraph_format.space_before = Pt(10)
    properties = document.core_properties
    properties.title, properties.author = view["title"], ""
    properties.comments = f"{view['words']['made']} {view['version']}"
    properties.language = view["lang"]
    for spoken in styles.element.iter(qn("w:lang")):
        spoken.set(qn("w:val"), view["lang"])
    properties.created = properties.modified = EPOCH
    _page_number(page.footer.paragraphs[0])


def _font(style: ParagraphStyle, name: str, size: float) -> None:
    from docx.oxml.ns import qn
    from docx.shared import Pt

    style.font.name, style.font.size = name, Pt(size)
    fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
    for key in ("asciiTheme", "hAnsiTheme", "eastAsiaTheme", "cstheme"):
        fonts.attrib.pop(qn(f"w:{key}"), None)
    for key in ("w:ascii", "w:hAnsi", "w:cs"):
        fonts.set(qn(key), name)


def _element(name: str, **attributes: str) -> BaseOxmlElement:
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    made = OxmlElement(name)
    for key, value in attributes.items():
        made.set(qn(f"w:{key}"), value)
    return made


def _page_number(paragraph: Paragraph) -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH

    paragraph.alignment = WD_ALIGN_PARAGRAPH.CENTER
    for kind in ("begin", "end"):
        run = paragraph.add_run()
        run._r.append(_element("w:fldChar", fldCharType=kind))
        if kind == "begin":
            code = _element("w:instrText")
            code.text = "PAGE"
            paragraph.add_run()._r.append(code)


def _part(document: WordDocument, part: Mapping[str, Any]) -> None:
    """Add one part of the abstract: its label before its first words."""
    blocks = list(part["blocks"])
    paragraph = document.add_paragraph()
    paragraph.add_run(f"{part['label']}. ").bold = True
    if blocks and blocks[0]["type"] == "paragraph":
        _words(paragraph, blocks.pop(0)["runs"])
    else:
        paragraph.paragraph_format.keep_with_next = True
    for block in blocks:
        _block(document, block, {}, deeper=False)


def _cautions(document: WordDocument, cautions: Sequence[Mapping[str, Any]], heading: str) -> None:
    """Add what the data are, on a ground of its own."""
    if not cautions:
        return
    paragraphs = [document.add_heading(heading, 1)]
    for group in cautions:
        paragraphs.append(document.add_paragraph())
        paragraphs[-1].add_run(group["concerns"]).bold = True
        paragraphs[-1].paragraph_format.keep_with_next = True
        for item in group["items"]:
            paragraphs.append(_paragraph(document, "List Bullet"))
            _words(paragraphs[-1], item)
    for paragraph in paragraphs:
        properties = paragraph._p.get_or_add_pPr()
        borders = _element("w:pBdr")
        borders.append(_element("w:left", val="single", sz="24", space="6", color=EDGE))
        # The schema wants the border before the ground, and both before the spacing.
        properties.insert_element_before(borders, *AFTER_BORDERS)
        properties.insert_element_before(_element("w:shd", val="clear", color="auto", fill=GROUND), *AFTER_BORDERS[1:])


AFTER_BORDERS = ("w:shd", "w:tabs", "w:suppressAutoHyphens", "w:spacing", "w:ind", "w:jc", "w:outlineLvl", "w:rPr")


def _block(
    document: WordDocument,
    block: Mapping[str, Any],
    figures: Mapping[str, Sequence[bytes]],
    *,
    page: str = "",
    deeper: bool,
) -> None:
    kind = block["type"]
    if kind == "paragraph":
        paragraph = _after_table(document, document.add_paragraph())
        _words(paragraph, block["runs"])
        # Words that are all strong are the label of what follows.
        paragraph.paragraph_format.keep_with_next = all(run["t"] == "strong" for run in block["runs"]) or None
    elif kind == "list":
        for item in block["items"]:
            _words(_paragraph(document, "List Bullet"), item)
    elif kind == "subheading":
        document.add_heading(block["text"], 3 if deeper else 2)
    elif kind == "code":
        for line in block["text"].splitlines():
            _paragraph(document, "Code", line)
    elif kind == "figure":
        _figure(document, block, figures[block["id"]], page)
    else:
        _table(document, block)


def _paragraph(document: WordDocument, style: str, text: str = "") -> Paragraph:
    """Add a paragraph of a style by the style's id: asked by name, python-docx reads all styles for each paragraph."""
    paragraph = document.add_paragraph(text)
    paragraph._p.style = document.styles[style].style_id
    return paragraph


def _after_table(document: WordDocument, paragraph: Paragraph) -> Paragraph:
    """Set a paragraph apart from a table right before it."""
    from docx.shared import Pt

    before = paragraph._p.getprevious()
    if before is not None and before.tag.endswith("}tbl"):
        paragraph.paragraph_format.space_before = Pt(8)
    return paragraph


def _words(paragraph: Paragraph, runs: Sequence[Run]) -> None:
    for run in runs:
        if run["t"] == "link":
            _link(paragraph, run["s"], run["href"])
            continue
        made = paragraph.add_run(run["s"])
        made.bold, made.italic = run["t"] == "strong" or None, run["t"] == "em" or None
        if run["t"] == "code":
            made.font.name = MONO


def _link(paragraph: Paragraph, text: str, address: str) -> None:
    from docx.opc.constants import RELATIONSHIP_TYPE
    from docx.oxml.ns import qn
    from docx.shared import RGBColor

    link = _element("w:hyperlink")
    link.set(qn("r:id"), paragraph.part.relate_to(address, RELATIONSHIP_TYPE.HYPERLINK, is_external=True))
    run = paragraph.add_run(text)
    run.font.color.rgb, run.font.underline = RGBColor(0x14, 0x55, 0x8F), True
    link.append(run._r)
    paragraph._p.append(link)


def _caption(document: WordDocument, block: Mapping[str, Any], *, above: bool) -> None:
    paragraph = _paragraph(document, "Caption")
    paragraph.add_run(f"{block['number']}. ").bold = True
    _words(paragraph, block["caption"])
    paragraph.paragraph_format.keep_with_next = above


def _notes(document: WordDocument, block: Mapping[str, Any]) -> None:
    for note in block["notes"]:
        _words(_paragraph(document, "Note"), note)


def _figure(document: WordDocument, block: Mapping[str, Any], pages: Sequence[bytes], word: str) -> None:
    """Add the pages of a figure with what they show in words, and its caption below."""
    from docx.shared import Emu, Mm

    for number, png in enumerate(pages, 1):
        paragraph = document.add_paragraph()
        paragraph.paragraph_format.keep_with_next = True
        picture = paragraph.add_run().add_picture(io.BytesIO(png))
        share = min(1.0, Mm(TEXT_WIDTH) / picture.width, Mm(TEXT_HEIGHT) / picture.height)
        picture.width, picture.height = Emu(int(share * picture.width)), Emu(int(share * picture.height))
        page = f", {word} {number}" if len(pages) > 1 else ""
        properties = picture._inline.docPr
        properties.set("title", f"{block['title']}{page}")
        properties.set("descr", f"{block['title']}{page}. {block['description']}")
    _caption(document, block, above=False)
    _notes(document, block)


def _table(document: WordDocument, block: Mapping[str, Any]) -> None:
    """Add a table in APA form: three rules, a head that repeats on each page, rows that are not torn apart."""
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    _caption(document, block, above=True)
    widths = [round(TWIPS_PER_MM * width) for width in _widths(block)]
    head = (
        f"<w:trPr><w:cantSplit/><w:tblHeader/></w:trPr>{_row(block['headers'], block['aligns'], widths, HEAD, RULED)}"
    )
    rows = [f"<w:tr>{head}</w:tr>"]
    for row in block["rows"]:
        cells = (
            _cell(row["group"], "left", sum(widths), HEAD, f'<w:gridSpan w:val="{len(widths)}"/>', keep=True)
            if "group" in row
            else _row(row["cells"], block["aligns"], widths)
        )
        rows.append(f"<w:tr><w:trPr><w:cantSplit/></w:trPr>{cells}</w:tr>")
    grid = "".join(f'<w:gridCol w:w="{width}"/>' for width in widths)
    text = f"<w:tbl {nsdecls('w')}>{TABLE.format(sum(widths))}<w:tblGrid>{grid}</w:tblGrid>{''.join(rows)}</w:tbl>"
    # Before the section's own properties, which end the body.
    document.element.body.insert_element_before(parse_xml(text), "w:sectPr")
    _notes(document, block)


def _row(texts: Sequence[str], aligns: Sequence[str], widths: Sequence[int], run: str = "", cell: str = "") -> str:
    return "".join(
        _cell(text if _breaks(text, align) or run else text.replace(" ", HARD), align, width, run, cell)
        for text, align, width in zip(texts, aligns, widths, strict=True)
    )


def _cell(text: str, align: str, width: int, run: str = "", cell: str = "", *, keep: bool = False) -> str:
    inside = f'<w:r>{run}<w:t xml:space="preserve">{escape(text, quote=False)}</w:t></w:r>'
    return (
        f'<w:tc><w:tcPr><w:tcW w:w="{width}" w:type="dxa"/>{cell}</w:tcPr>'
        f'<w:p><w:pPr><w:pStyle w:val="TableText"/>{"<w:keepNext/>" if keep else ""}<w:jc w:val="{align}"/></w:pPr>'
        f"{inside}</w:p></w:tc>"
    )


def _widths(block: Mapping[str, Any]) -> list[float]:
    """Return millimetres of each column: its longest text, or less where words can be broken and the page is full."""
    rows = [row["cells"] for row in block["rows"] if "cells" in row]
    cells = [[str(text) for text in column] for column in zip(block["headers"], *rows, strict=True)]
    wished = [_millimetres(max(map(len, column))) for column in cells]
    least = [_millimetres(_unbroken(*one)) for one in zip(cells, block["aligns"], strict=True)]
    room, slack = TEXT_WIDTH - sum(least), sum(wished) - sum(least)
    share = min(max(room / slack, 0.0), 1.0) if slack > 0 else 1.0
    found = [low + share * (most - low) for low, most in zip(least, wished, strict=True)]
    return [min(1.0, TEXT_WIDTH / sum(found)) * own for own in found]


def _millimetres(characters: int) -> float:
    return PADDING + MM_PER_CHARACTER * characters


def _unbroken(column: Sequence[str], align: str) -> int:
    """Return the characters of the longest text of a column that is not broken: a number, or a word."""
    head, *texts = column
    whole = [part for text in texts for part in (text.split() if _breaks(text, align) else [text])]
    return max(map(len, [*head.split(), *whole]), default=1)


def _breaks(text: str, align: str) -> bool:
    """Say whether a text of a cell may be broken: words, but no number with its signs."""
    return align == "left" or text[:1].isalpha()


def _same_bytes(document: WordDocument) -> bytes:
    """Return the file without the clock that its archive would keep."""
    made, plain = io.BytesIO(), io.BytesIO()
    document.save(made)
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(plain, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name, EPOCH.timetuple()[:6]), source.read(name), zipfile.ZIP_DEFLATED)
    return plain.getvalue()
