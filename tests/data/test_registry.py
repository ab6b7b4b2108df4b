import hashlib
import http.server
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from decoders.data import registry as module
from decoders.data.download import download
from decoders.data.registry import (
    MIRROR_VARIABLE,
    Entry,
    RegisteredFile,
    Registry,
    describe,
    fetch,
    mirror_folder,
    names,
    registry,
)
from decoders.errors import InputError, IntegrityError

BASE = "https://example.org/set/"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Site:
    """A local server: what it sends, how often it breaks off first, what it was asked for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    breaks: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            site.asked.append(name)
            content = site.files.get(name)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if site.breaks.get(name, 0):
                site.breaks[name] -= 1
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                self.connection.close()
                return
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_address[1]}/"
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "mirror" not in request.fixturenames:
        monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


A, B = b"a" * 100_000, b"second"
FILES = (
    RegisteredFile("a.bin", "raw", sha(A), len(A), BASE + "a.bin"),
    RegisteredFile("deep/b.txt", "raw", sha(B), len(B), BASE + "b.txt"),
)


def made(site: Site | None, *files: RegisteredFile) -> Registry:
    entry = Entry("set", "A set", "CC0", "Nobody (2001)", "", files or FILES)
    return Registry({"set": entry}, {"https://example.org/set/": site.address} if site else {})


def everything_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_download_then_nothing_more_to_do(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site.files = {"a.bin": A, "b.txt": B}
    with caplog.at_level(logging.INFO, logger="corticode"):
        folder = fetch("set", cache=tmp_path, source=made(site))
    assert folder == tmp_path / "set"
    assert (folder / "a.bin").read_bytes() == A
    assert (folder / "deep/b.txt").read_bytes() == B
    assert "CC0 Cite: Nobody (2001)" in caplog.text
    assert fetch("set", cache=tmp_path, source=made(site)) == folder
    assert site.asked == ["a.bin", "b.txt"]


def test_a_broken_connection_is_tried_again(site: Site, tmp_path: Path) -> None:
    site.files, site.breaks = {"a.bin": A, "b.txt": B}, {"a.bin": 2}
    folder = fetch("set", cache=tmp_path, source=made(site))
    assert everything_below(folder) == ["a.bin", "deep/b.txt"]
    assert site.asked == ["a.bin"] * 3 + ["b.txt"]


def test_an_interrupted_download_leaves_nothing_and_the_next_goes_on(site: Site, tmp_path: Path) -> None:
    site.files, site.breaks = {"a.bin": A, "b.txt": B}, {"b.txt": 3}
    with pytest.raises(InputError, match=r"Nothing was kept of it.*not downloaded a second time"):
        fetch("set", cache=tmp_path, source=made(site))
    assert everything_below(tmp_path) == ["set/a.bin"]
    site.asked.clear()
    fetch("set", cache=tmp_path, source=made(site))
    assert site.asked == ["b.txt"]
    assert everything_below(tmp_path) == ["set/a.bin", "set/deep/b.txt"]


def test_wrong_bytes_are_not_kept_nor_asked_for_again(site: Site, tmp_path: Path) -> None:
    site.files = {"a.bin": A, "b.txt": b"altered"}
    with pytest.raises(IntegrityError, match=f"expected the SHA-256 {sha(B)[:12]}.*found {sha(b'altered')[:12]}"):
        fetch("set", cache=tmp_path, source=made(site))
    assert everything_below(tmp_path) == ["set/a.bin"]
    assert site.asked.count("b.txt") == 1


def test_an_address_that_is_gone(site: Site, tmp_path: Path) -> None:
    site.files = {"a.bin": A}
    with pytest.raises(InputError, match="404") as raised:
        fetch("set", cache=tmp_path, source=made(site))
    assert "data.mirror" in str(raised.value)
    assert site.asked.count("b.txt") == 1
    assert everything_below(tmp_path) == ["set/a.bin"]


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"refused"):
        download("http://127.0.0.1:9/x", tmp_path / "x", sha(b""), timeout=2)
    assert everything_below(tmp_path) == []


def test_a_cache_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    site.files = {"a.bin": A, "b.txt": B}
    (tmp_path / "set").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="a folder that can be written"):
        fetch("set", cache=tmp_path, source=made(site))


def test_a_cached_file_that_was_changed(site: Site, tmp_path: Path) -> None:
    site.files = {"a.bin": A, "b.txt": B}
    folder = fetch("set", cache=tmp_path, source=made(site))
    (folder / "deep/b.txt").write_bytes(b"changed")
    with pytest.raises(IntegrityError, match="delete it and fetch it again"):
        fetch("set", cache=tmp_path, source=made(site))


def mirrored(tmp_path: Path, **files: bytes) -> Path:
    for name, content in {"a.bin": A, "deep/b.txt": B, **files}.items():
        path = tmp_path / "mirror" / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "mirror"


def test_the_mirror_is_read_and_verified_without_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = mirrored(tmp_path)
    assert fetch("set", mirror=mirror, source=made(None)) == mirror / "set"
    monkeypatch.setenv(MIRROR_VARIABLE, str(mirror))
    assert fetch("set", source=made(None)) == mirror / "set"
    assert mirror_folder("other") == Path("other")
    (mirror / "set" / "a.bin").write_bytes(b"b" * len(A))
    with pytest.raises(IntegrityError, match=r"a\.bin"):
        fetch("set", source=made(None))


def test_a_mirror_that_lacks_something(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="CORTICODE_MIRROR to the folder above"):
        fetch("set", mirror=tmp_path, source=made(None))
    mirror = mirrored(tmp_path)
    (mirror / "set" / "a.bin").unlink()
    with pytest.raises(InputError, match=r"It comes from https://example.org/set/a.bin"):
        fetch("set", mirror=mirror, source=made(None))


def test_verification_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror, read = mirrored(tmp_path), []
    original = module.sha256_of
    monkeypatch.setattr(module, "sha256_of", lambda path: read.append(path.name) or original(path))
    for _ in range(3):
        fetch("set", mirror=mirror, source=made(None))
    assert read == ["a.bin", "b.txt"]


DERIVED = RegisteredFile("c.npz", "derived", sha(b"c"), 1, origin="made of pictures.")
OFFICIAL = RegisteredFile("c.idx", "official", sha(b"i"), 1, BASE + "c.idx")


def test_a_derived_file_says_what_it_is_made_from_before_anything_is_downloaded(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"It is derived: made of pictures\. .*<mirror>/<data set>/c.npz"):
        fetch("set", cache=tmp_path, source=made(site, *FILES, DERIVED))
    assert site.asked == []


def test_official_files_are_downloaded_in_place_of_derived_ones(site: Site, tmp_path: Path) -> None:
    site.files = {"c.idx": b"i"}
    folder = fetch("set", cache=tmp_path / "cache", source=made(site, DERIVED, OFFICIAL))
    assert everything_below(folder) == ["c.idx"]
    # A mirror may hold either.
    assert fetch("set", mirror=tmp_path / "cache", source=made(None, DERIVED, OFFICIAL)) == folder
    (folder / "c.idx").unlink()
    (folder / "c.npz").write_bytes(b"c")
    assert fetch("set", mirror=tmp_path / "cache", source=made(None, DERIVED, OFFICIAL)) == folder


def test_a_recipe_is_verified_like_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.RECIPES, "made", lambda path, address: path.write_bytes(b"c"))
    file = RegisteredFile("c.txt", "derived", sha(b"c"), 1, recipe="made")
    assert (fetch("set", cache=tmp_path, source=made(None, file)) / "c.txt").read_bytes() == b"c"
    monkeypatch.setitem(module.RECIPES, "made", lambda path, address: path.write_bytes(b"d"))
    with pytest.raises(IntegrityError):
        fetch("set", cache=tmp_path / "other", source=made(None, file))
    assert everything_below(tmp_path / "other") == []


def test_an_unknown_set_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'haxby'.*bold_haxby2001_pymvpa"):
        fetch("haxby")


def test_the_shipped_registry_is_pinned_and_complete() -> None:
    assert len(names()) == len(set(names())) >= 7
    for entry in registry().entries.values():
        assert entry.files
        assert entry.title
        assert entry.licence
        assert entry.citation
        assert len({file.path for file in entry.files}) == len(entry.files)
        for file in entry.files:
            assert len(file.sha256) == 64
            assert int(file.sha256, 16)
            assert file.size > 0
            if file.kind == "derived" or file.recipe:
                assert file.origin
                assert not file.url
                assert file.recipe in {"", *module.RECIPES}
            else:
                assert file.url.startswith("https://")
            if "githubusercontent" in file.url:
                assert len(file.url.split("/")[5]) == 40  # a commit, not a branch
    assert "Licence: CC BY-SA 3.0" in describe("img_mnist")


@pytest.mark.mirror
@pytest.mark.parametrize("name", names())
def test_the_mirror_holds_every_registered_file(mirror: Path, name: str) -> None:
    assert fetch(name, mirror) == mirror / name


@pytest.mark.mirror
def test_the_table_of_files_is_what_the_build_makes(mirror: Path) -> None:
    from decoders.data.registry_build import build_rows, render

    table = Path(module.__file__).with_name("files.tsv").read_text(encoding="utf-8")
    assert render(build_rows(mirror)) == table


@pytest.mark.parametrize("name", ["objects92_labels", "localizer_sidecar"])
def test_our_recipes_make_the_registered_files(tmp_path: Path, name: str) -> None:
    module.RECIPES[name](tmp_path / name, str)
    (file,) = [file for entry in registry().entries.values() for file in entry.files if file.recipe == name]
    assert sha((tmp_path / name).read_bytes()) == file.sha256


@pytest.mark.mirror
def test_a_user_without_a_mirror_gets_the_same_files(
    mirror: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every download of a whole entry, through the addresses of the shipped registry."""
    monkeypatch.delenv(MIRROR_VARIABLE)
    github = "https://raw.githubusercontent.com/"
    entry = registry().entry("rsa92_fmri_cichy2014")
    raw = [file for file in entry.files if file.kind == "raw"]
    site.files = {file.url.removeprefix(github): (mirror / entry.name / file.path).read_bytes() for file in raw}
    folder = fetch(entry.name, cache=tmp_path, source=Registry(registry().entries, {github: site.address}))
    assert everything_below(folder) == everything_below(mirror / entry.name)
    assert all(
        (folder / name).read_bytes() == (mirror / entry.name / name).read_bytes() for name in everything_below(folder)
    )
