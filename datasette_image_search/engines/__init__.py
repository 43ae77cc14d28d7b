"""Where vectors are kept to be ranked, beside the sidecar: the protocol, the registry, and Lance."""
