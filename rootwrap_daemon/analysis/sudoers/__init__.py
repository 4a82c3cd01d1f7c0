"""Translate sudoers files into filter files."""
