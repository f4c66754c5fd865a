"""Payloads on disk, until their destination takes them. Imported when there is something to put there or to find."""
