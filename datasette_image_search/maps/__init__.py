"""A collection as a map: images as points, their colours, and drawings of both."""
