"""The studio: edit a scene in the browser. `gs-ssd studio scene=face`.

Read `workspace` first: the state, without a page. `timeline`, `selection`, `runner`, `history` and `exports` are
its parts. `frames` and `painter` make the pictures, `gate` and `uploads` guard the door, `server` puts them behind
viser, and `page` with one file per panel in `panels/` holds the controls, each of which is one call of the workspace.
"""
