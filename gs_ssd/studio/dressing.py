"""What is put into viser's page before a browser gets it: our title, a check for WebGL, and room for the picture."""

from __future__ import annotations

# Runs before viser's page: a browser that can't draw is told so in one line.
_WEBGL = """<script>
(function () {
  var canvas = document.createElement("canvas"), gl = null;
  try { gl = canvas.getContext("webgl2"); } catch (error) {}
  if (gl) return;
  window.stop();
  document.documentElement.innerHTML = '<body style="font: 16px system-ui; margin: 2em">' +
    '<p id="gs-ssd-no-webgl">This browser shows no WebGL 2, which the studio needs: turn on hardware acceleration in ' +
    'its settings, or use another browser.</p></body>';
})();
</script>"""

# viser lays the controls over the lower right of a narrow screen's picture. Here they stand below it, as wide as the
# screen; a tap on their title folds them, and the picture takes the room. What pops up for some seconds lies over the
# end of the controls, not over the picture. viser 1.1 names none of these boxes: they are known by their style. Its
# warning of a browser without a GPU goes: the pictures come from the server.
_SHEET = '.mantine-Paper-root[style*="max-height: 60%"]'
_STYLE = f"""<style>
#webgl-software-rendering {{ display: none; }}
@media (max-width: 36em) {{
  div:has(> {_SHEET}) {{ flex-direction: column !important; }}
  {_SHEET} {{
    position: relative !important; flex: none; width: 100% !important; max-height: 46% !important;
  }}
  {_SHEET} [style*="width: 20em"] {{ width: 100% !important; }}
  .mantine-Notifications-root {{
    top: auto !important; bottom: 0.5em !important; left: 0.5em !important;
    width: auto !important; max-width: calc(100% - 1em); max-height: calc(46% - 1em);
    display: flex; flex-direction: column; justify-content: flex-end; overflow: hidden;
  }}
}}
</style>"""


def dressed(html: bytes) -> bytes:
    """viser's page with what this file says."""
    head = f"<title>gs_ssd studio</title>{_WEBGL}{_STYLE}"
    return html.replace(b"<title>Viser</title>", head.encode(), 1)
