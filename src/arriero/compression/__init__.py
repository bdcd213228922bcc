"""Making a trained model smaller, and handing it on."""
