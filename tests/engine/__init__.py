"""The engine, turned by hand and run; a package so that its files may be named like those of the rooms."""
