"""What watches over a run: bad steps, spikes, silent corruption, hangs."""
