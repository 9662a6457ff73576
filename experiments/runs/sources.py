"""Which code made a run: a digest of the source files, and the repository's commit."""

import subprocess
from pathlib import Path

from experiments.system.files import sha256_of

FOLDER = Path(__file__).parents[2]
SCRIPTS = ("additional_experiments.py", "gpt_download.py", "previous_chapters.py")


def source_files() -> list[Path]:
    """Returns the files that a run is made by: all of the package but what compares runs."""
    package = sorted((FOLDER / "experiments").rglob("*.py"))
    return [FOLDER / name for name in SCRIPTS] + [
        path for path in package if path.parent.name != "comparison"
    ]


def source_digest() -> str:
    """Returns the digests of the source files of a run, so that edited code runs anew."""
    return " ".join(sha256_of(path) for path in source_files())


def git_commit() -> str | None:
    """Returns the commit of the repository around the source files, `-dirty` if edited, or None."""
    try:
        commit = git("rev-parse", "HEAD")
        # Takes no lock, which would stay, and block commits, if the process were killed.
        edited = git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if edited else commit


def git(*arguments: str) -> str:
    """Returns what git says of the repository around the source files."""
    run = subprocess.run(
        ["git", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=10, check=True
    )
    return run.stdout.strip()
