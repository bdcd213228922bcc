"""A child process for libraries that may hang, crash or eat memory: asked by one pipe, answering by another."""
