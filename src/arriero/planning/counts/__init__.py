"""What training asks for, counted from the model object itself."""
