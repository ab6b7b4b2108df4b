"""Verified downloads that leave the whole file or none."""

from __future__ import annotations

from pathlib import Path

from decoders.errors import InputError, IntegrityError
from decoders.store.atomic import atomic_path, sha256_of


def default_cache() -> Path:
    """Return the folder of downloads: that of the operating system's conventions, below ``corticode``."""
    import pooch

    return Path(pooch.os_cache("corticode"))


def download(url: str, path: Path, sha256: str | None, attempts: int = 3, timeout: float = 30.0) -> None:
    """Download a file to `path`, whole and verified, or not at all.

    Parameters
    ----------
    url : str
    path : Path
        Its folder is made; a temporary name beside it is used until the checksum is right.
    sha256 : str or None
        64 hexadecimal digits; None where the caller verifies what it makes of the file.
    attempts : int
        Tries after a broken connection. An answer such as 404 or a wrong checksum is final.
    timeout : float
        Seconds without an answer.

    Raises
    ------
    InputError
        The address cannot be reached, answers with an error, or breaks off every time; or the
        cache cannot be written.
    IntegrityError
        What came is not the registered file.
    """
    import requests
    import urllib3

    failure: Exception | None = None
    for _ in range(attempts):
        try:
            with atomic_path(path) as temporary:
                _receive(url, temporary, timeout)
                if sha256 is not None:
                    _check(temporary, path, url, sha256)
            return
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failure = error
            if _is_final(error):
                break
        except OSError as error:
            remedy = "Make room, or choose another folder for downloads."
            raise InputError("a folder that can be written", f"'{error}'", path.parent, remedy) from error
    raise InputError(
        f"the file from {url}",
        f"'{failure}'",
        path,
        "Nothing was kept of it. Check the network (or the proxy) and run again: files that are already here are not "
        "downloaded a second time. Without a network, set data.mirror to a folder that holds the data set.",
    ) from failure


def _is_final(error: Exception) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status is not None and 400 <= status < 500


def _receive(url: str, temporary: Path, timeout: float) -> None:
    import pooch

    pooch.HTTPDownloader(timeout=timeout, progressbar=False)(url, str(temporary), None)


def _check(temporary: Path, path: Path, url: str, sha256: str) -> None:
    found = sha256_of(temporary)
    if found != sha256:
        raise IntegrityError(
            f"the SHA-256 {sha256[:12]}…",
            f"{found[:12]}… in what {url} sent",
            path,
            "Nothing was kept of it. The source may have changed or a proxy may have altered it; please report it.",
        )
