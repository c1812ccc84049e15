"""Questions to the lab's own resolvers, on the wire."""
