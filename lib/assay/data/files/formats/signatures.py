"""What a file is by its first bytes, whatever its name says."""

PICTURES = ((b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF8", "GIF"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"))
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
OTHERS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel file. Save it as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file. Save it as CSV"),
    (b"%PDF", "a PDF. Give a table of texts, such as CSV"),
    (b"\x89HDF", "an HDF5 file. Save it as Parquet or CSV"),
    (b"\x93NUMPY", "a NumPy array. Save it as Parquet or CSV"),
    (b"SQLite format 3\0", "an SQLite database. Save the table as CSV"),
    (b"BZh", "a bzip2 file. Unpack it, or pack it with gzip"),
    (b"\xfd7zXZ\0", "an xz file. Unpack it, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file. Unpack it, or pack it with gzip"),
    (b"\x80\x04\x95", "a Python pickle, which is a program. Save it as Parquet or CSV"),
)


def is_picture(content: bytes) -> bool:
    """Says whether bytes begin as PNG, JPEG, BMP, GIF, WebP and TIFF do."""
    return any(content.startswith(mark) for mark, _ in PICTURES) or _is_bitmap(content) or _is_webp(content)


def is_arrow(start: bytes) -> bool:
    """Says whether bytes begin as Parquet, Arrow files, Arrow streams and Feather do."""
    return start.startswith((b"PAR1", b"ARROW1", b"FEA1", b"\xff\xff\xff\xff"))


def is_picture_name(name: str) -> bool:
    """Says whether a name ends as those of pictures do."""
    return name.lower().endswith(EXTENSIONS)


def other_kind(start: bytes) -> str:
    """Returns what else a file is and what to do with it, or ""."""
    if is_picture(start):
        return "a picture. Give a folder with one folder of pictures for each class"
    return next((said for mark, said in OTHERS if start.startswith(mark)), "")


# -- private --------------------------------------------------------------------------------------------------------------


def _is_bitmap(content: bytes) -> bool:
    return content[:2] == b"BM" and content[6:10] == b"\0\0\0\0"


def _is_webp(content: bytes) -> bool:
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"
