"""Pages for engineers, nurses and supervisors."""
