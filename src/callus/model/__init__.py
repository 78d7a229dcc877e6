"""The network: trunks equal to Keras', the weights that Keras publishes for them, and the head."""
