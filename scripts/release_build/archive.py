"""The one file: a compressed tree behind a shell script that unpacks it."""

import gzip
import hashlib
import shutil
import tarfile
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launcher.sh")


def pack(folder: Path, archive: Path, epoch: int) -> None:
    """Write a tar.gz whose bytes depend on nothing but the files and ``epoch``, in seconds."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = epoch
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=9, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in [folder, *sorted(folder.rglob("*"))]:
            tar.add(path, arcname=str("tree" / path.relative_to(folder)), recursive=False, filter=plain)


def join(payload: Path, program: Path, version: str, megabytes: int) -> None:
    """Write the launcher and the payload behind it as one executable file."""
    digest = sha256(payload)
    text = _LAUNCHER.read_text(encoding="utf-8")
    values = {"VERSION": version, "SHA256": digest, "ID": digest[:16], "SIZE": str(megabytes)}
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    start = "@START@"  # as long as the number that takes its place
    head = text.replace(start, str(len(text.encode()) + 1).zfill(len(start)))
    with program.open("wb") as out, payload.open("rb") as packed:
        out.write(head.encode())
        shutil.copyfileobj(packed, out)
    program.chmod(0o755)


def sha256(file: Path) -> str:
    """The SHA-256 checksum of a file, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
