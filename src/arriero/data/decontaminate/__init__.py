"""Global step that finds the items of benchmarks in the corpus."""
