"""`arriero estimate --serve`: what a model gives its readers on a device."""
