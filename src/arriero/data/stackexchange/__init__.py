"""Dumps of Stack Exchange: rows of Posts.xml, questions with their answers, texts, pairs."""
