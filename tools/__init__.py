"""Programs for developers; not part of cablectl."""
