"""Write, lock, resume and read run folders."""
