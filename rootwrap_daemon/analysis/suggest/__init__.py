"""Propose filters from what an audit log says was asked."""
