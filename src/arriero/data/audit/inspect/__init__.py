"""`arriero data inspect`: a corpus and its rejects as a page in the browser, from this machine only."""
