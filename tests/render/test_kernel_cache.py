"""A cache that another version of the sources left is not read."""

import pickle

from gs_ssd.render.tiles import build


class Gone:
    """Stands for a type that an older version had: its pickle can't be read without it."""


def test_an_index_of_types_that_are_gone_is_ignored(tmp_path, monkeypatch):
    file = build._cache._cache_file
    monkeypatch.setattr(file, "_index_path", str(tmp_path / "index.nbi"))
    older = pickle.dumps(file._version.split()[0]) + pickle.dumps(("stamp", {"key": Gone()})).replace(
        b"Gone", b"Lost"
    )
    (tmp_path / "index.nbi").write_bytes(older)
    assert file._load_index() == {}
