"""Tag millions of photos on all machines of a Ray or Spark cluster."""
