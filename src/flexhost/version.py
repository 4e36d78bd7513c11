"""The version of the host; the package takes it from here."""

VERSION = "0.1.0"
