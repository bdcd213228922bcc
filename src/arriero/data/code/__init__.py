"""Files of source code: which are wanted, and what is cut from their beginnings."""
