"""The page's panels, one per file. None of them computes anything: they read controls and call the workspace."""
