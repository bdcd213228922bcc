"""Products in plain C for the processor: low-bit and dense weights, where a compiler was there to build them."""
