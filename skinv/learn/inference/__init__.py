"""The inference engine: fitted models on batches, on single matrices, on parts of inverses."""
