"""PDF: the text of its pages, by pypdf in a child process that can be killed, and what is cut from it."""
