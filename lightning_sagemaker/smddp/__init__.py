"""AWS's SMDDP collectives as Lightning strategies, within the library's real limits."""
