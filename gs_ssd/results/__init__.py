"""What a run leaves behind: pictures, videos, the change it made, the manifest and the report."""
