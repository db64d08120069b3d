"""How a network is fitted. Its modules import torch and skorch; this package does not."""
